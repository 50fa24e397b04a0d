"""Find the stages of a convolution net, where resolution falls and channels grow.

A stage is a run of layers with feature maps (N, C, *spatial) of one resolution. Many nets follow
"double the channels, halve the resolution", which keeps the FLOPs of a convolution constant: C^2
grows by what H x W loses (Simonyan and Zisserman 2015; He et al. 2016, section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest

from fmstats.analysis.records import Call
from fmstats.output.tables import Block, Column, Table, format_count, join_blocks

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """Describes a run of layers of one resolution.

    Attributes:
        resolution: the spatial dims, (H, W) for images.
        channels: with which it ends.
        elements: of the output with which it ends, a sample.
        relative: `elements` beside those of the first stage.
        last: the layer that ends it.
        layers: how many layers without submodules it has.
        flops: of the heaviest of them, a call.
    """

    resolution: Shape
    channels: int
    elements: int
    relative: float
    last: str
    layers: int
    flops: int


@dataclass(frozen=True)
class Break:
    """Describes a step to the next stage that does not double channels and halve resolution."""

    layer: str
    before: Shape
    after: Shape

    def __str__(self) -> str:
        (c, *size), (d, *then) = self.before, self.after
        grows = _times(d, c)
        falls = " x ".join(dict.fromkeys(_times(b, a) for a, b in zip(size, then, strict=True)))
        return f"{self.layer}: channels {c} to {d} ({grows}), resolution {falls}"


@dataclass(frozen=True)
class Stages:
    """Holds all stages in the order of execution; iterating gives them.

    Attributes:
        breaks: steps that do not keep to the rule, in either direction (a decoder halves channels
            and doubles resolution). What leaves for vectors (1 x 1) is no step, nor is what leaves
            for maps of another number of dims.
    """

    stages: tuple[Stage, ...]
    breaks: tuple[Break, ...]

    @property
    def follow_the_rule(self) -> bool:
        """Return whether every step doubles channels and halves resolution; False without one."""
        return bool(_steps(self.stages)) and not self.breaks

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def blocks(self) -> list[Block]:
        """Return what is printed: a table of the stages, and whether they follow the rule."""
        if not self.stages:
            return ["no stages: no layer gives feature maps"]
        verdict = ["every step doubles the channels and halves the resolution"]
        if not self.follow_the_rule:
            verdict = [f"not 'double the channels, halve the resolution': {b}" for b in self.breaks]
        return [Table(_COLUMNS, [vars(stage) for stage in self.stages]), *verdict]

    def __str__(self) -> str:
        return join_blocks(self.blocks())


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _relative(x: float) -> str:
    return f"{x:.3g}"


_COLUMNS = (
    Column("resolution", "resolution", _size),
    Column("channels", "channels", keep=6),
    Column("elements", "elements", format_count, keep=4),
    Column("relative", "relative", _relative, keep=2),
    Column("flops", "FLOPs at most", format_count, keep=3),
    Column("layers", "layers", keep=1),
    Column("last", "last layer", names=True, keep=5),
)


def find_stages(calls: Sequence[Call]) -> Stages:
    """Find the stages of these calls of modules; all feature maps have channels in dim 1."""
    runs: list[list[tuple[Call, Shape]]] = []
    for call in calls:
        shape = call.shape or ()
        if runs and runs[-1][-1][1][2:] == shape[2:]:
            runs[-1].append((call, shape))
        else:
            runs.append([(call, shape)])
    runs = [_without_next(run, then) for run, then in zip_longest(runs, runs[1:])]
    ends = _ends(runs)
    stages = tuple(
        Stage(
            resolution=shape[2:],
            channels=shape[1],
            elements=math.prod(shape[1:]),
            relative=math.prod(shape[1:]) / math.prod(ends[0][1][1:]),
            last=last.name,
            layers=sum(call.leaf for call, _ in run),
            flops=max((call.flops for call, _ in run if call.leaf), default=0),
        )
        for run, (last, shape) in zip(runs, ends, strict=True)
    )
    breaks = []
    for i in _steps(stages):
        before, after = ends[i - 1][1][1:], ends[i][1][1:]
        if not _keeps_rule(before, after):
            # The layer that first has the channels with which the stage ends.
            cause = next(call for call, shape in runs[i] if shape[1] == after[0])
            breaks.append(Break(cause.name, before, after))
    return Stages(stages, tuple(breaks))


def _without_next(
    run: list[tuple[Call, Shape]], then: list[tuple[Call, Shape]] | None
) -> list[tuple[Call, Shape]]:
    """Return a run without the layers at its end that belong to the block that ends it.

    A bottleneck reduces channels at the old resolution, before its strided convolution.
    """
    if then is None:
        return run
    pairs = zip(run[-1][0].name.split("."), then[0][0].name.split("."), strict=False)
    shared = [a for a, b in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    block = ".".join(shared) + "." if shared else ""
    left = list(run)
    while left and left[-1][0].name.startswith(block):
        left.pop()
    return left or run


def _ends(runs: Sequence[list[tuple[Call, Shape]]]) -> list[tuple[Call, Shape]]:
    """Return the last call of each run, without blocks that hold earlier stages as well."""
    ends, earlier = [], set[str]()
    for run in runs:
        ends.append(next((c for c in reversed(run) if c[0].name not in earlier), run[-1]))
        for call, _ in run:
            parts = call.name.split(".")
            earlier |= {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
    return ends


def _keeps_rule(before: Shape, after: Shape) -> bool:
    small, large = (after, before) if after[1:] < before[1:] else (before, after)
    halved = all(a in (b // 2, -(-b // 2)) for a, b in zip(small[1:], large[1:], strict=True))
    return halved and small[0] == 2 * large[0]


def _steps(stages: Sequence[Stage]) -> list[int]:
    """Return the indices of the stages that follow another by a step that the rule covers."""
    sizes = [stage.resolution for stage in stages]
    return [
        i
        for i in range(1, len(sizes))
        if math.prod(sizes[i]) > 1 and len(sizes[i]) == len(sizes[i - 1])
    ]


def _times(after: int, before: int) -> str:
    return f"x {after / before:.3g}"
