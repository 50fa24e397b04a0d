"""Tensors for the law and parity tests: every kind of data, dtype and layout, by construction.

A sample is a function of what it is a case of: its seed is a hash of those words, so no two cases
repeat each other and each is the same in every run.
"""

from __future__ import annotations

import itertools
import math
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Shape = tuple[int, ...]


def _with(x: Tensor, *values: float, share: float = 0.05) -> Tensor:
    """Put each value at about that share of the places."""
    for value in values:
        x[torch.rand(x.shape) < share] = value
    return x


def _spread(f: torch.finfo) -> float:
    """A standard deviation near the largest number whose sums and squares fit float64."""
    return 1e150 if f.dtype == "float64" else f.max / 8


def _patterns(shape: Shape, f: torch.finfo) -> Tensor:
    """Any bits that a number of the dtype can have; of float64, those whose squares fit it."""
    x = torch.randint(0, 2**f.bits if f.bits < 64 else 2**32, shape)
    of = {8: torch.uint8, 16: torch.int16}.get(f.bits, torch.int32)
    dtype = torch.float32 if f.dtype == "float64" else getattr(torch, f.dtype)
    values = x.to(of).view(dtype).double()
    return values**3 if f.dtype == "float64" else values


# Each gives float64 data of a shape, to be rounded to the dtype described.
KINDS: dict[str, Callable[[Shape, torch.finfo], Tensor]] = {
    "normal": lambda shape, f: torch.randn(shape),
    "relu": lambda shape, f: torch.randn(shape).relu(),
    "constant": lambda shape, f: torch.full(shape, 0.3),
    "zero": lambda shape, f: torch.zeros(shape),
    "negative zero": lambda shape, f: _with(torch.zeros(shape), -0.0, 1.0, share=0.3),
    "two values": lambda shape, f: torch.where(torch.rand(shape) < 0.5, 1.7, 0.3),
    "neighbours": lambda shape, f: torch.where(
        torch.rand(shape) < 0.2, 1 + max(f.eps, 2.0**-23), 1.0
    ),
    "at the bounds": lambda shape, f: _with(torch.randint(-8, 9, shape) / 8, 6.0, 0.0, 0.99),
    "large mean": lambda shape, f: 1e3 + torch.randn(shape),
    "rising": lambda shape, f: torch.linspace(-100, 300, max(math.prod(shape), 1))[
        : math.prod(shape)
    ].view(shape),
    "outlier first": lambda shape, f: torch.cat(
        [torch.full((1,), 300.0), torch.randn(math.prod(shape)) + 1]
    )[: math.prod(shape)].view(shape),
    "subnormal": lambda shape, f: torch.randn(shape) * (f.smallest_normal / 4),
    "tiny": lambda shape, f: torch.randn(shape) * (f.smallest_normal * 64),
    "huge": lambda shape, f: torch.randn(shape) * _spread(f),
    # An additive attention mask: the lowest number but for a few places.
    "masked": lambda shape, f: _with(
        torch.full(shape, -1e200 if f.dtype == "float64" else f.min), 0.0
    ),
    "any bits": _patterns,
    "nan and inf": lambda shape, f: _with(torch.randn(shape), math.nan, math.inf, -math.inf),
    "constant among nan": lambda shape, f: _with(torch.full(shape, math.nan), 0.3),
    "all nan": lambda shape, f: torch.full(shape, math.nan),
    "all inf": lambda shape, f: _with(torch.full(shape, math.inf), -math.inf),
}


def make(kind: str, shape: Shape, dtype: torch.dtype) -> Tensor:
    """Data of a kind, contiguous. Small floats get what their range can hold."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return KINDS[kind](shape, torch.finfo(dtype)).to(dtype)
    finally:
        torch.set_default_dtype(previous)


# Each rearranges a tensor whose channels are in dim 1, and says where they are then.
LAYOUTS: dict[str, Callable[[Tensor], tuple[Tensor, int]]] = {
    "contiguous": lambda x: (x, 1),
    "channels last": lambda x: (x.movedim(1, -1).contiguous().movedim(-1, 1), 1),
    "tokens": lambda x: (x.movedim(1, -1).contiguous(), x.dim() - 1),
    "transposed": lambda x: (x.transpose(0, -1), 1 if x.dim() > 2 else 0),
    "every other": lambda x: (x[..., ::2] if x.dim() > 2 else x[::2], 1),
    "cropped channels last": lambda x: (
        (x.movedim(1, -1).contiguous().movedim(-1, 1)[..., 1:] if x.dim() > 2 else x[1:]),
        1,
    ),
    "offset": lambda x: (x[1:], 1),
    "expanded": lambda x: (x[:1].expand(3 * len(x[:1]), *x.shape[1:]), 1),
    "one channel": lambda x: (x[:, :1], 1),
}

# Of fewer channels than a vector, whole vectors, and some more.
WIDTHS = (1, 2, 3, 4, 7, 8, 9, 16, 17, 33, 70)


@dataclass(frozen=True, repr=False)
class Sample:
    """A tensor, where its channels are, and which kind of data each of them holds."""

    x: Tensor
    channel_dim: int
    kinds: tuple[str, ...]

    def __repr__(self) -> str:
        x = self.x
        return (
            f"{x.dtype} {tuple(x.shape)} strides {x.stride()}, channels in dim "
            f"{self.channel_dim}: {', '.join(dict.fromkeys(self.kinds))}"
        )

    def parts(self, dim: int, cuts: list[int]) -> list[Sample]:
        """The tensor cut along a dim of its positions."""
        pieces = self.x.tensor_split(cuts, dim)
        return [Sample(piece, self.channel_dim, self.kinds) for piece in pieces]

    @property
    def position_dims(self) -> list[int]:
        return [dim for dim in range(self.x.dim()) if dim != self.channel_dim]


def seeded(*case: object) -> random.Random:
    """The random numbers of a case; torch's come from the same seed."""
    seed = zlib.crc32(" | ".join(map(str, case)).encode())
    torch.manual_seed(seed)
    return random.Random(seed)


def _shape(rng: random.Random, channels: int, small: bool = False) -> Shape:
    """2 to 5 dims; none so small that a layout has no positions left."""
    dims = rng.randint(2, 5)
    most = ({2: 40, 3: 9, 4: 5, 5: 3} if small else {2: 40, 3: 40, 4: 12, 5: 6})[dims]
    shape = [rng.randint(2, most) for _ in range(dims)]
    shape[1] = channels
    return tuple(shape)


def _sample(kinds: tuple[str, ...], shape: Shape, dtype: torch.dtype, layout: str) -> Sample:
    columns = [make(kind, (shape[0], 1, *shape[2:]), dtype) for kind in kinds]
    wide = torch.cat([column.double() for column in columns], 1)  # float8 has no cat
    x, dim = LAYOUTS[layout](wide.to(dtype))
    return Sample(x, dim, kinds[: x.shape[dim]])


def pure(dtype: torch.dtype, layout: str, *case: object) -> Iterator[Sample]:
    """For each kind a tensor that holds nothing else."""
    for kind in KINDS:
        rng = seeded(dtype, layout, kind, "pure", *case)
        channels = rng.choice(WIDTHS)
        yield _sample((kind,) * channels, _shape(rng, channels), dtype, layout)


def mixed(dtype: torch.dtype, layout: str, *case: object, small: bool = False) -> Iterator[Sample]:
    """Tensors whose neighbouring channels hold different kinds, until each kind had a channel.

    Args:
        dtype: of the tensors.
        layout: of `LAYOUTS`.
        case: what else they are for.
        small: of few positions, for kernels that an interpreter runs.
    """
    rng = seeded(dtype, layout, "mixed", *case)
    order = rng.sample(list(KINDS), len(KINDS))
    kinds, missing = itertools.cycle(order), set(order)
    while missing:
        channels = rng.choice(WIDTHS[3:])
        chosen = tuple(next(kinds) for _ in range(1 if layout == "one channel" else channels))
        shape = _shape(rng, channels, small)
        # The layout of one channel leaves the others out.
        sample = _sample((*chosen, *["normal"] * (channels - len(chosen))), shape, dtype, layout)
        missing -= set(sample.kinds)
        yield sample
