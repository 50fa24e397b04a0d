"""What does the first pass cost, in which operations are followed, and what do later ones?

    python benchmarks/bench_first_pass.py [--quick] [--json FILE] [--models NAME ...] [--cpu-time]

Eval mode, inference mode, CPU. In each round a tracker is made anew, and the passes take turns:

- bare: without a tracker;
- first: the first pass of a tracker, which is watched: the operations of the model are followed;
- later: a pass of that tracker after two others;
- first and later, unwatched: the same with functional=False and one channel_dim for all layers (dim
  1, or the last where most layers have that), so that nothing is looked for.

Each ratio is the median over the rounds. The last column compares later passes with and without
what a watch leaves behind; where functions have rows of their own it shows what these cost. On a
busy machine --cpu-time, with OMP_NUM_THREADS=1, counts what the process computes and not its waits.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from bench_model import copy_for_hooks
from interleave import options_of, print_line, ratio, write_json
from models import MODELS
from torch import Tensor, nn

import fmstats

Row = dict[str, Any]
NAMES = ("ResNet-18", "MobileNetV2", "ResNet-18 F", "MobileNetV2 F", "ViT-S", "Llama")
QUICK = ("MobileNetV2", "MobileNetV2 F")
RATIOS = (
    ("first", "bare"),
    ("first unwatched", "bare"),
    ("later", "bare"),
    ("later unwatched", "bare"),
    ("later", "later unwatched"),
)


Clock = Callable[[], float]


def seconds_of(call: Callable[[], object], clock: Clock) -> float:
    started = clock()
    call()
    return clock() - started


def main_dim(model: nn.Module, x: Tensor) -> tuple[int, int, int]:
    """Return the dim that most layers have their channels in, and how many rows there are.

    Returns:
        The dim (1 or -1), the rows of modules, and those of functions.
    """
    with fmstats.track(copy := copy_for_hooks(model)) as tracker:
        copy(x)
    info = tracker.stats().info.values()
    modules = set(dict(model.named_modules()))
    dims = Counter(1 if row.channel_dim == 1 else -1 for row in info)
    own = sum((row.layer or "") in modules or row.layer == "(model)" for row in info)
    return dims.most_common(1)[0][0], own, len(info) - own


@torch.inference_mode()
def measure(model: nn.Module, x: Tensor, rounds: int, clock: Clock = time.perf_counter) -> Row:
    """Return the figures of one model."""
    dim, modules, functions = main_dim(model.eval(), x)
    ways: dict[str, dict[str, Any]] = {
        "": {},
        " unwatched": {"functional": False, "channel_dim": dim},
    }
    seconds: dict[str, list[float]] = {"bare": []}
    copies = {way: copy_for_hooks(model) for way in ways}
    for _ in range(rounds + 1):
        gc.collect()
        trackers = []
        seconds["bare"].append(seconds_of(partial(model, x), clock))
        for way, options in ways.items():
            trackers.append(fmstats.track(copies[way], **options))
            first = seconds_of(partial(copies[way], x), clock)
            seconds.setdefault(f"first{way}", []).append(first)
            copies[way](x)
        for way in ways:
            later = seconds_of(partial(copies[way], x), clock)
            seconds.setdefault(f"later{way}", []).append(later)
        for tracker in trackers:
            tracker.close()
    warm = {way: timed[1:] for way, timed in seconds.items()}
    found = {f"{a}/{b}": ratio(warm, a, b) for a, b in RATIOS}
    sizes = {"modules": modules, "functions": functions, "bare, ms": 1e3 * median(warm["bare"])}
    return {**sizes, **found}


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each model."""
    parser = options_of(__doc__ or "")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="these only")
    parser.add_argument("--rounds", type=int, help="instead of 25, or of 5")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time, not waits")
    options = parser.parse_args(argv)
    clock = time.process_time if options.cpu_time else time.perf_counter
    names = options.models or (QUICK if options.quick else NAMES)
    rounds = options.rounds or (5 if options.quick else 25)
    rows: list[Row] = []
    for name in names:
        torch.manual_seed(0)
        model, x = MODELS[name]()
        row = {"model": name, **measure(model, x, rounds, clock)}
        if not rows:
            widths = (14, *(max(9, len(head)) for head in list(row)[1:]))
            print_line(list(row), widths)
        print_line(list(row.values()), widths)
        rows.append(row)
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
