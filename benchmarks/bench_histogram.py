"""What do histograms and other measures on request cost, beside what is always measured?

    python benchmarks/bench_histogram.py [--quick] [--json FILE] [--models NAME ...]

Whole models in eval mode on the CPU with one thread, each under both settings of malloc
(`malloc_settings.py`): the time over that of the bare model, with every leaf module watched by
`fmstats.track` alone, with a histogram of each layer, and by torch.ao's HistogramObserver, which
has one histogram a tensor as well. Below, single tensors: the time of all that is measured, over
`x.sum()`, in nanoseconds an element, and of a `torch.histc` of each channel over what a histogram
of each adds. The ways take turns, and cells are medians over the rounds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from bench_model import copy_for_hooks, profile_of
from interleave import options_of, print_line, ratio, time_in_turn, write_json
from malloc_settings import MALLOC, ask_child
from models import MODELS
from torch import Tensor, nn

import fmstats
from fmstats.backends import choose_backend
from fmstats.statistic.bins import Bins
from fmstats.statistic.measures import Measures
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

Row = dict[str, Any]
WATCHED = ("ResNet-18", "MobileNetV2")
MEASURED: dict[str, Measures] = {
    "always": Measures(),
    "abs": Measures.of("abs"),
    "kurtosis": Measures.of("kurtosis"),
    "of the layer": Measures.of("histogram", Bins("layer")),
    "of channels": Measures.of("histogram", Bins("channel")),
}
TENSORS: dict[str, tuple[Callable[[], Tensor], int]] = {
    "normal": (lambda: torch.randn(16, 64, 56, 56), 1),
    "after ReLU": (lambda: torch.randn(16, 64, 56, 56).relu(), 1),
    "one number": (lambda: torch.full((16, 64, 56, 56), 1.3), 1),
    "uniform": (lambda: torch.rand(16, 64, 56, 56) * 2 - 1, 1),
    "7 x 7": (lambda: torch.randn(16, 512, 7, 7), 1),
    "channels last": (
        lambda: torch.randn(16, 64, 56, 56).to(memory_format=torch.channels_last),
        1,
    ),
    "tokens": (lambda: torch.randn(8, 128, 768), 2),
}


def with_observers(model: nn.Module, names: Sequence[str]) -> nn.Module:
    """Copy a model, with an observer of torch.ao at the output of each of these modules."""
    kind = importlib.import_module("torch.ao.quantization.observer").HistogramObserver
    watched = copy_for_hooks(model)
    for name in names:
        observer = kind()

        def hook(_: nn.Module, args: Any, output: Tensor, observer: Any = observer) -> None:
            observer(output)

        watched.get_submodule(name).register_forward_hook(hook)
    return watched


def measure_model(name: str, quick: bool, rounds: int) -> Row:
    """Return the time of each way to watch a model over that of the bare one."""
    torch.manual_seed(0)
    model, x = MODELS[name]()
    x = x[:1].clone() if quick else x
    model.eval()
    names = list(profile_of(model, x))
    always, layered = copy_for_hooks(model), copy_for_hooks(model)
    ways: dict[str, Callable[[], object]] = {
        "bare": partial(model, x),
        "fmstats": partial(always, x),
        "histograms": partial(layered, x),
        "HistogramObserver": partial(with_observers(model, names), x),
    }
    with (
        fmstats.track(always, functional=False),
        fmstats.track(layered, functional=False, measure="histogram"),
    ):
        seconds = time_in_turn(ways, rounds)
    return {
        "model": name,
        "layers": len(names),
        "ms": 1e3 * median(seconds["bare"]),
        **{way: ratio(seconds, way, "bare") for way in list(ways)[1:]},
        "observer's added/ours": median(
            (observer - bare) / (ours - bare)
            for observer, ours, bare in zip(
                *(seconds[way] for way in ("HistogramObserver", "histograms", "bare")), strict=True
            )
        ),
    }


def count_with_histc(x: Tensor, channel_dim: int) -> list[Tensor]:
    """Count each channel in 64 bins, as there is no `torch.histc` of many at once."""
    return [torch.histc(channel.float(), 64) for channel in x.unbind(channel_dim)]


def measure_tensor(name: str, rounds: int) -> Row:
    """Return the nanoseconds an element of each way to measure a tensor."""
    make, channel_dim = TENSORS[name]
    x = make()
    view, backend = view_of(x, channel_dim), choose_backend("auto", x.device)
    ways: dict[str, Callable[[], object]] = {"x.sum()": x.sum}
    for kind, measures in MEASURED.items():
        state = State.identity(view.channels, measures=measures)
        ways[kind] = partial(backend.accumulate, state, x, view, Thresholds())
    ways["torch.histc of channels"] = partial(count_with_histc, x, channel_dim)
    seconds = time_in_turn(ways, rounds)
    each: Row = {way: 1e9 * median(seconds[way]) / x.numel() for way in ways}
    each["histc/ours"] = median(
        histc / (ours - always)
        for histc, ours, always in zip(
            *(seconds[w] for w in ("torch.histc of channels", "of channels", "always")), strict=True
        )
    )
    return {"tensor": name, **each}


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table of models for each setting of malloc, and one of tensors."""
    parser = options_of(__doc__ or "")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="these only")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    quick, rounds = options.quick, 3 if options.quick else 9
    torch.set_num_threads(1)
    with torch.inference_mode():
        if options.child:
            chosen = options.models or WATCHED
            print(json.dumps([measure_model(name, quick, rounds) for name in chosen]))
            return
        rows: list[Row] = []
        for malloc in MALLOC:
            found = ask_child(__file__, malloc, sys.argv[1:] if argv is None else argv)
            header = list(found[0])[1:]
            print(f"\nmalloc {malloc}: time over that of the bare model")
            print_line(header, [len(cell) + 5 for cell in header])
            for row in found:
                print_line([row[cell] for cell in header], [len(cell) + 5 for cell in header])
            rows += found
        print("\nnanoseconds an element")
        tensors = list(TENSORS)[: 2 if quick else None]
        for number, name in enumerate(tensors):
            row = measure_tensor(name, rounds)
            if number == 0:
                print_line(list(row), [len(cell) + 4 for cell in row])
            print_line(list(row.values()), [len(cell) + 4 for cell in row])
            rows.append(row)
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
