"""What does measuring one tensor cost, beside reading it once (`x.sum()`) and beside PyTorch?

    python benchmarks/bench_kernel.py [--quick] [--json FILE]

Columns: `/sum`, the time over that of `x.sum()`. `seed/` and `var_mean/`, the time of these rivals
(rivals.py) over ours. `compiled/`, that of the faster of both under torch.compile(dynamic=False);
the first full run compiles for some minutes. `of f32`, GB/s over those of a float32 tensor of as
many bytes: 16-bit tensors have twice the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from interleave import options_of, print_line, ratio, time_in_turn, write_json
from rivals import RIVALS
from torch import Tensor

from fmstats.backends import choose_backend
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

SHAPES = (  # of float32; 205, 26, 13, 26, 3 and 8 MB
    (64, 64, 112, 112),
    (8, 64, 112, 112),
    (4, 64, 112, 112),
    (8, 256, 56, 56),
    (8, 2048, 7, 7),
    (32, 1280, 7, 7),
)
QUICK = (SHAPES[1], SHAPES[4])
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PLAIN = ("seed", "var_mean")
COMPILED = ("seed compiled, static", "var_mean compiled, static")
HEADER = (
    *("shape", "layout", "dtype", "us", "GB/s"),
    *("/sum", "seed/", "var_mean/", "compiled/", "of f32"),
)
WIDTHS = (20, 13, 8, 8, 6, 6, 6, 9, 9, 6)


def update_of(x: Tensor) -> Callable[[], object]:
    """Return what a hook runs for a tensor like the last one."""
    view = view_of(x, 1)
    meter = choose_backend("auto", x.device).meter(State.identity(x.shape[1]), Thresholds())
    meter.update(x, view)
    return lambda: meter.try_update(x) or meter.update(x, view)


def measure(
    shape: Sequence[int], layout: str, rivals: Sequence[str], rounds: int, quick: bool
) -> list[dict[str, Any]]:
    """Return the rows of one shape in one layout; the dtypes are timed alternately too."""
    ways: dict[str, Callable[[], object]] = {}
    tensors = {}
    for name, dtype in DTYPES.items():
        batch = shape[0] * 4 // dtype.itemsize
        x = torch.randn(batch, *shape[1:]).to(dtype).contiguous(memory_format=LAYOUTS[layout])
        tensors[name] = x
        ways[f"fmstats {name}"] = update_of(x)
        ways[f"sum {name}"] = x.sum
        if quick and name != "float32":
            continue
        for rival in rivals:
            ways[f"{rival} {name}"] = partial(RIVALS[rival].on_a_layer(), x, 1)
    seconds = time_in_turn(ways, rounds)
    rows = []
    for name, x in tensors.items():
        ours = median(seconds[f"fmstats {name}"])
        row: dict[str, Any] = {
            "shape": tuple(x.shape),
            "layout": layout,
            "dtype": name,
            "bytes": x.nbytes,
            "us": 1e6 * ours,
            "gb_per_s": x.nbytes / ours / 1e9,
            "fmstats/sum": ratio(seconds, f"fmstats {name}", f"sum {name}"),
        }
        for rival in rivals:
            if f"{rival} {name}" in seconds:
                row[f"{rival}/fmstats"] = ratio(seconds, f"{rival} {name}", f"fmstats {name}")
        best = [row[f"{c}/fmstats"] for c in COMPILED if f"{c}/fmstats" in row]
        row["compiled/fmstats"] = min(best, default=None)
        # As many bytes on both sides, so the times alone give the ratio of GB/s.
        row["of_float32"] = ratio(seconds, "fmstats float32", f"fmstats {name}")
        rows.append(row)
    return rows


def measure_scaling(shape: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Return the speed of all threads over that of one, for fmstats and for reading once."""
    threads = torch.get_num_threads()
    rows = []
    for layout, memory in LAYOUTS.items():
        x = torch.randn(*shape).contiguous(memory_format=memory)
        ours = update_of(x)

        def run(way: Callable[[], object], count: int) -> None:
            torch.set_num_threads(count)
            way()

        ways = {
            f"{name} {count}": lambda way=way, count=count: run(way, count)
            for name, way in (("fmstats", ours), ("sum", x.sum))
            for count in (1, threads)
        }
        seconds = time_in_turn(ways, rounds)
        torch.set_num_threads(threads)
        row = {"shape": tuple(shape), "layout": layout, "bytes": x.nbytes, "threads": threads}
        for name in ("fmstats", "sum"):
            row[f"{name} 1/{threads}"] = ratio(seconds, f"{name} 1", f"{name} {threads}")
        rows.append(row)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row per tensor, then how the largest one scales."""
    options = options_of(__doc__ or "").parse_args(argv)
    rounds = 5 if options.quick else 11
    wanted = PLAIN if options.quick else PLAIN + COMPILED
    rivals = [name for name in wanted if RIVALS[name].why_not() is None]
    rows = []
    print_line(HEADER, WIDTHS)
    for shape in QUICK if options.quick else SHAPES:
        for layout in LAYOUTS:
            for row in measure(shape, layout, rivals, rounds, options.quick):
                rows.append(row)
                cells = (row["shape"], layout, row["dtype"], f"{row['us']:.0f}")
                plain = [row.get(f"{name}/fmstats") for name in PLAIN]
                figures = (row["fmstats/sum"], *plain, row["compiled/fmstats"], row["of_float32"])
                print_line((*cells, f"{row['gb_per_s']:.1f}", *figures), WIDTHS)
    for name in PLAIN + COMPILED:
        why = RIVALS[name].why_not() or (name not in wanted and "full runs only")
        if why:
            print(f"{name}: {why}")
    threads = torch.get_num_threads()
    if threads == 1:
        print("scaling: one thread only")
    else:
        for row in measure_scaling(QUICK[0] if options.quick else SHAPES[0], rounds):
            rows.append(row)
            print(
                f"{threads} threads against 1, {row['shape']} {row['layout']}: "
                f"{row[f'fmstats 1/{threads}']:.2f} times as fast "
                f"(x.sum(): {row[f'sum 1/{threads}']:.2f})"
            )
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
