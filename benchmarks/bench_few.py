"""What does a hook cost on a tensor of many channels and few positions: decoding, MLPs, 7 x 7 maps?

    python benchmarks/bench_few.py [--quick] [--json FILE]

`us`: what a hook adds to the call of a module that returns its input, with one thread and with all.
`ns a channel`: the same with one thread. `/sum`: it over the time of `x.sum()`, of one thread as
well. The ways take turns, and cells are medians over the rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from interleave import options_of, print_line, time_in_turn, write_json
from torch import nn

import fmstats

Row = dict[str, Any]
CASES: dict[str, tuple[tuple[int, ...], int]] = {  # shape, dim of the channels
    "decoding": ((1, 1, 4096), 2),
    "decoding, wide": ((1, 1, 11008), 2),
    "a short prompt": ((1, 16, 4096), 2),
    "MLP, 8": ((8, 256), 1),
    "MLP, 32": ((32, 256), 1),
    "7 x 7": ((8, 512, 7, 7), 1),
    "7 x 7, wide": ((16, 960, 7, 7), 1),
    "tokens": ((8, 128, 768), 2),
}
WIDTHS = (16, 16, 9, 13, 13, 8)


class Same(nn.Module):
    """Returns its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def measure(name: str, rounds: int) -> Row:
    """Return the row of one shape."""
    shape, channel_dim = CASES[name]
    x, bare, model = torch.randn(shape), Same(), nn.Sequential(Same())
    # Not the model: it has one hook more, of the pass.
    ways = {"bare": partial(bare, x), "hook": partial(model[0], x), "sum": x.sum}
    threads, added = torch.get_num_threads(), {}
    with torch.inference_mode(), fmstats.track(model, channel_dim=channel_dim):
        for count in (threads, 1):
            torch.set_num_threads(count)
            seconds = time_in_turn(ways, rounds)
            added[count] = [
                hook - call for hook, call in zip(seconds["hook"], seconds["bare"], strict=True)
            ]
    torch.set_num_threads(threads)
    return {
        "case": name,
        "shape": shape,
        "us, 1 thread": 1e6 * median(added[1]),
        "us, all": 1e6 * median(added[threads]),
        "ns a channel": 1e9 * median(added[1]) / shape[channel_dim],
        "/sum": median(hook / total for hook, total in zip(added[1], seconds["sum"], strict=True)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row for each shape."""
    options = options_of(__doc__ or "").parse_args(argv)
    names = list(CASES)[:: 3 if options.quick else 1]
    rows: list[Row] = []
    for number, name in enumerate(names):
        row = measure(name, 5 if options.quick else 21)
        if number == 0:
            print_line(list(row), WIDTHS)
        print_line(list(row.values()), WIDTHS)
        rows.append(row)
    print(f"all: {torch.get_num_threads()} threads")
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
