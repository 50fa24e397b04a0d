"""What does measuring a masked tensor cost, or one in groups, beside measuring all of it?

    python benchmarks/bench_masks.py [--quick] [--json FILE]

Columns: `kept`, the share of the positions that count; `/all`, the time over that of the same
tensor without a mask. Of groups, `/all` is of all groups together. Below, the same of hooks: the
pass of a model is timed with its tracker, that of the bare model taken off, and the mask is read in
each pass; then whole passes of a model that is measured by classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from interleave import options_of, print_line, ratio, time_in_turn, write_json
from models import resnet_18
from torch import Tensor, nn

import fmstats
from fmstats.backends import choose_backend
from fmstats.statistic.clock import Clock
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import grouped_view_of, view_of

TOKENS = ((32, 128, 768), (8, 128, 768))
IMAGES = ((64, 64, 56, 56), (64, 128, 28, 28), (64, 512, 7, 7))
HEADER = ("shape", "groups by", "groups", "kept", "us", "/all")
WIDTHS = (20, 14, 6, 6, 8, 6)
# What the positions of a tensor are in: the name of the kind, their numbers, how many groups.
Case = tuple[str, Tensor, int]


def cases_of_tokens(batch: int, tokens: int) -> Iterator[Case]:
    """Yield numbers for (batch, tokens, channels)."""
    every = torch.ones(batch, tokens, 1, dtype=torch.bool)
    yield "all", every, 1
    yield "padding", (torch.arange(tokens) < tokens // 2)[:, None].expand_as(every).contiguous(), 1
    yield "token", torch.rand(batch, tokens, 1) < 0.5, 1
    yield "sample", (torch.arange(batch) % 2 == 0)[:, None, None], 1


def cases_of_images(batch: int, height: int, width: int) -> Iterator[Case]:
    """Yield numbers for (batch, channels, height, width)."""
    samples = torch.arange(batch)[:, None, None, None]
    yield "all", torch.ones(batch, 1, height, width, dtype=torch.bool), 1
    yield "sample", samples >= 0, 1
    yield "sample", (samples % 10 + 1).to(torch.uint8), 10
    middle = torch.zeros(1, 1, height, width, dtype=torch.bool)
    middle[..., height // 4 : -(height // 4), width // 4 : -(width // 4)] = True
    yield "region", middle, 1
    yield "pixel", torch.rand(batch, 1, height, width) < 0.5, 1
    yield "pixel", torch.randint(1, 5, (batch, 1, height, width), dtype=torch.uint8), 4


def update_of(x: Tensor, channel_dim: int, case: Case | None) -> Callable[[], object]:
    """Return what updates a state with a tensor; None: with all of it."""
    groups = 1 if case is None else case[2]
    backend, clock, thresholds = choose_backend("auto", x.device), Clock(), Thresholds()
    state = State.identity(groups * x.shape[channel_dim])
    view, positions = view_of(x, channel_dim), None
    if case is not None:
        view, positions = grouped_view_of(x, channel_dim, case[1], groups)
    return lambda: backend.accumulate(state, x, view, thresholds, clock, positions)


def measure(shape: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Return a row for each way to group the positions of a tensor."""
    if len(shape) == 3:
        channel_dim, cases = 2, list(cases_of_tokens(*shape[:2]))
    else:
        channel_dim, cases = 1, list(cases_of_images(shape[0], *shape[2:]))
    x = torch.randn(*shape)
    updates = [update_of(x, channel_dim, case) for case in (None, *cases)]
    seconds = time_in_turn({str(i): update for i, update in enumerate(updates)}, rounds)
    return [
        {
            "shape": tuple(shape),
            "by": name,
            "groups": groups,
            "kept": (numbers > 0).double().mean().item(),
            "us": 1e6 * median(seconds[str(i)]),
            "masked/all": ratio(seconds, str(i), "0"),
        }
        for i, (name, numbers, groups) in enumerate(cases, start=1)
    ]


class Tokens(nn.Module):
    """This model gives what it is given."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the tokens."""
        return x


def measure_hook(shape: Sequence[int], rounds: int) -> dict[str, Any]:
    """Return the time of a hook under a mask of one half over that of one without a mask."""
    x = torch.randn(*shape)
    mask = torch.arange(shape[1]) < shape[1] // 2
    mask = mask.expand(shape[0], -1).contiguous()
    models = {name: Tokens() for name in ("bare", "all", "half")}
    trackers = [
        fmstats.track(models["all"], channel_dim=2),
        fmstats.track(models["half"], channel_dim=2, mask="mask"),
    ]
    ways = {name: partial(model, x, mask) for name, model in models.items()}
    seconds = {name: median(each) for name, each in time_in_turn(ways, rounds).items()}
    for tracker in trackers:
        tracker.close()
    hooks = {name: seconds[name] - seconds["bare"] for name in ("all", "half")}
    return {
        "shape": tuple(shape),
        "us": 1e6 * hooks["half"],
        "masked/all": hooks["half"] / hooks["all"],
    }


def measure_classes(batch: int, rounds: int) -> dict[str, Any]:
    """Return the time of a pass of ResNet-18 under ten classes over that under one."""
    labels = torch.arange(batch) % 10
    ways, trackers = {}, []
    for name, groups in (("one", labels * 0), ("ten", labels)):
        model = resnet_18()[0].eval()

        def classes_of(args: Any, kwargs: Any, groups: Tensor = groups) -> Tensor:
            return groups

        trackers.append(fmstats.track(model, groups=classes_of))
        ways[name] = partial(model, torch.randn(batch, 3, 224, 224))
    with torch.no_grad():
        seconds = time_in_turn(ways, rounds)
    for tracker in trackers:
        tracker.close()
    return {
        "batch": batch,
        "seconds": median(seconds["ten"]),
        "ten/one": ratio(seconds, "ten", "one"),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row per tensor and way to group its positions."""
    options = options_of(__doc__ or "").parse_args(argv)
    rows = []
    print_line(HEADER, WIDTHS)
    for shape in (TOKENS[1], IMAGES[2]) if options.quick else TOKENS + IMAGES:
        for row in measure(shape, rounds=5 if options.quick else 15):
            rows.append(row)
            cells = (row["shape"], row["by"], row["groups"], row["kept"])
            print_line((*cells, f"{row['us']:.0f}", row["masked/all"]), WIDTHS)
    quick = options.quick
    hooks = [measure_hook(shape, rounds=5 if quick else 40) for shape in TOKENS]
    for row in hooks:
        print(
            f"hook, {row['shape']}, half masked: {row['us']:.0f} us, /all {row['masked/all']:.2f}"
        )
    classes = measure_classes(2 if quick else 64, rounds=2 if quick else 5)
    print(f"ResNet-18, batch {classes['batch']}, ten classes: /one {classes['ten/one']:.2f}")
    write_json(options.json, [*rows, *hooks, classes])


if __name__ == "__main__":
    main()
