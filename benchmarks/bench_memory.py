"""How many bytes does tracking keep, and do they grow with the data?

    python benchmarks/bench_memory.py [--quick] [--json FILE]

Eight convolutions and ReLUs on (1, 16, 32, 32): 1 MB of activations a batch. Columns: bytes that
the way holds for each channel after 2 and after 200 batches, and by how much the resident memory of
the process grew between. "keep" is a hook that keeps every activation.
"""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from interleave import options_of, print_line, write_json
from rivals import RIVALS, attach, do_nothing
from torch import Tensor, nn

import fmstats

CHANNELS, LAYERS = 16, 8
EARLY, LATE = 2, 200
WIDTHS = (16, 18, 20, 16)


def network() -> nn.Sequential:
    pairs = [(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU()) for _ in range(LAYERS)]
    return nn.Sequential(*[module for pair in pairs for module in pair]).eval()


def resident() -> int:
    """Return the bytes of this process in memory, or its peak where the system has no more."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return pages * resource.getpagesize()


def no_bytes() -> int:
    return 0


def start_empty(model: nn.Sequential) -> Callable[[], int]:
    """Hook a way to the model; what comes back says how many bytes it holds."""
    for layer in model:
        layer.register_forward_hook(do_nothing)
    return no_bytes


def start_fmstats(model: nn.Sequential) -> Callable[[], int]:
    tracker = fmstats.track(model)
    return lambda: sum(s.state.words.nbytes for s in tracker.stats().values())


def start_seed(model: nn.Sequential) -> Callable[[], int]:
    for layer in model:
        attach(layer, RIVALS["seed"], 1)
    # Five float32 numbers a channel, of the last batch only.
    return lambda: 5 * 4 * CHANNELS * len(model)


def start_keep(model: nn.Sequential) -> Callable[[], int]:
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: object, output: Tensor) -> None:
        kept.append(output)

    for layer in model:
        layer.register_forward_hook(keep)
    return lambda: sum(x.nbytes for x in kept)


WAYS = {
    "empty": start_empty,
    "fmstats": start_fmstats,
    "seed": start_seed,
    "keep": start_keep,  # the last one: it leaves the process large
}


@torch.inference_mode()
def measure(way: str, early: int, late: int) -> dict[str, Any]:
    """Return the row of one way."""
    model = network()
    held = WAYS[way](model)
    x = torch.randn(1, CHANNELS, 32, 32)
    row: dict[str, Any] = {"way": way, "batches": [early, late]}
    for name, batches in (("early", early), ("late", late - early)):
        for _ in range(batches):
            model(x)
        row[f"{name}_bytes_a_channel"] = held() / (CHANNELS * len(model))
        gc.collect()
        row[f"{name}_resident"] = resident()
    row["resident_grew"] = row["late_resident"] - row["early_resident"]
    return row


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row per way."""
    options = options_of(__doc__ or "").parse_args(argv)
    late = LATE // 4 if options.quick else LATE
    rows = []
    header = ("way", f"B/channel after {EARLY}", f"B/channel after {late}", "resident, MB")
    print_line(header, WIDTHS)
    measure("empty", EARLY, late)  # what the process allocates once, for any way
    for way in WAYS:
        row = measure(way, EARLY, late)
        rows.append(row)
        figures = (row["early_bytes_a_channel"], row["late_bytes_a_channel"])
        cells = (way, *(f"{figure:.0f}" for figure in figures))
        print_line((*cells, f"{row['resident_grew'] / 1e6:+.2f}"), WIDTHS)
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
