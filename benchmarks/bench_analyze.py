"""What does `fmstats.analyze` take, beside one pass under torch's FlopCounterMode?

    python benchmarks/bench_analyze.py [--quick] [--json FILE]

Both on the meta device, in turn: `ms`, the time of `analyze` (two passes: what layers do, and what
autograd keeps), with all that it reports; `/counter`, that over one pass of the counter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from interleave import options_of, print_line, ratio, time_in_turn, write_json
from models import MODELS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import fmstats

NAMES = ("ResNet-50", "MobileNetV2", "ViT-S")
WIDTHS = (28, 10, 10, 10)


def count(model: nn.Module, x: torch.Tensor) -> int:
    """Count the FLOPs by torch's counter."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops()


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Return a row: milliseconds of both ways (medians), and the median of their ratio."""
    made, x = MODELS[name]()
    model, image = made.eval().to("meta"), x[:1].to("meta")
    ways: dict[str, Callable[[], object]] = {
        "fmstats": lambda: fmstats.analyze(model, image),
        "counter": lambda: count(model, image),
    }
    seconds = time_in_turn(ways, rounds)
    return {
        "model": name,
        "ms": 1e3 * median(seconds["fmstats"]),
        "counter_ms": 1e3 * median(seconds["counter"]),
        "ratio": ratio(seconds, "fmstats", "counter"),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line per model."""
    options = options_of(__doc__ or "").parse_args(argv)
    rows = []
    print_line(("model", "ms", "counter ms", "/counter"), WIDTHS)
    for name in NAMES[:1] if options.quick else NAMES:
        rows.append(measure(name, rounds=5 if options.quick else 21))
        print_line([rows[-1][key] for key in ("model", "ms", "counter_ms", "ratio")], WIDTHS)
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
