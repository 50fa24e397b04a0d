"""What does measuring weights, gradients and updates cost in training?

    python benchmarks/bench_parameters.py [--quick] [--json FILE] [--models NAME ...]

A round of each way is `--steps` whole steps of training on the CPU: a forward and a backward pass,
and a step of the optimizer. "bare" has no tracker, "empty" has hooks at the optimizer that do
nothing, "every=10" measures one step in ten, and "every=1" all. Each cell is the median over the
rounds of the time over that of "bare" in the same round. --quick: one model, ten steps a round.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from interleave import options_of, print_line, ratio, time_in_turn, write_json
from models import MODELS
from rivals import do_nothing
from torch import Tensor, nn

import fmstats

EVERY = {"every=10": 10, "every=1": 1}
WAYS = ("bare", "empty", *EVERY)
QUICK_MODELS = ("MLP",)
TRAINED = ("ResNet-18", "MobileNetV2", "ViT-S", "MLP")
HEADER = ("model", "optimizer", "step, ms", *WAYS[1:])
WIDTHS = (14, 10, 9, 9, 9, 9)
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": partial(torch.optim.SGD, lr=1e-4, momentum=0.9),
    "AdamW": partial(torch.optim.AdamW, lr=1e-5),
}


def loss_of(output: Any) -> Tensor:
    """Return a loss of whatever a model gives: a tensor, or an object of transformers."""
    first: Tensor = output if isinstance(output, Tensor) else output[0]
    return first.square().mean()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, steps: int) -> None:
    """Make steps of training, all on one batch."""
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model(x)).backward()
        optimizer.step()


def measure(model: nn.Module, x: Tensor, optimizer: str, steps: int, rounds: int) -> dict[str, Any]:
    """Return the seconds of a step, and the ratios of all ways."""
    ways, trackers = {}, []
    for way in WAYS:
        own = copy.deepcopy(model).train()
        stepping = OPTIMIZERS[optimizer](own.parameters())
        if way == "empty":
            stepping.register_step_pre_hook(do_nothing)
            stepping.register_step_post_hook(do_nothing)
        elif way in EVERY:
            trackers.append(fmstats.track_parameters(own, stepping, every=EVERY[way]))
        ways[way] = partial(train, own, stepping, x, steps)
    seconds = time_in_turn(ways, rounds)
    row: dict[str, Any] = {"seconds_a_step": median(seconds["bare"]) / steps}
    row |= {way: ratio(seconds, way, "bare") for way in WAYS[1:]}
    row["parameters"] = sum(p.numel() for p in model.parameters())
    row["steps"] = [tracker.steps for tracker in trackers]
    row["steps_measured"] = [tracker.steps_measured for tracker in trackers]
    for tracker in trackers:
        tracker.close()
    return row


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row per model and optimizer."""
    parser = options_of(__doc__ or "")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="these only")
    parser.add_argument("--steps", type=int, default=10, help="in a round (default: 10)")
    options = parser.parse_args(argv)
    models = options.models or (QUICK_MODELS if options.quick else TRAINED)
    rows = []
    print_line(HEADER, WIDTHS)
    for name in models:
        print(f"{name} ...", file=sys.stderr, flush=True)
        torch.manual_seed(0)
        model, x = MODELS[name]()
        for optimizer in list(OPTIMIZERS)[: 1 if options.quick else None]:
            row = measure(model, x, optimizer, options.steps, 3 if options.quick else 7)
            rows.append({"model": name, "optimizer": optimizer, **row})
            ratios = [float(row[way]) for way in WAYS[1:]]
            print_line((name, optimizer, 1e3 * row["seconds_a_step"], *ratios), WIDTHS)
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
