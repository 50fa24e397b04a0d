"""What does measuring one tensor cost, beside reading it once (`x.sum()`) and beside PyTorch?

    python benchmarks/bench_kernel.py [--quick] [--json FILE]

"seed": the expressions that people write in hooks. "var_mean": the same numbers with mean and
variance in one operation and the zeros counted as integers.
"""

from __future__ import annotations

from math import nan
from statistics import median

import torch
from interleave import arguments, ratio, time_in_turn, write_json
from torch import Tensor

from fmstats.backends import choose_backend
from fmstats.layout import view_of
from fmstats.statistic import State, Thresholds

SHAPES = (
    (64, 64, 112, 112),
    (8, 64, 112, 112),
    (8, 256, 56, 56),
    (8, 2048, 7, 7),
    (32, 1280, 7, 7),
)
QUICK = SHAPES[1:4]
OVER = (0, 2, 3)


def seed(x: Tensor) -> tuple[Tensor, ...]:
    return x.mean(OVER), x.std(OVER), (x == 0).float().mean(OVER), x.amax(OVER), x.amin(OVER)


def var_mean(x: Tensor) -> tuple[Tensor, ...]:
    var, mean = torch.var_mean(x, OVER)
    return var, mean, x.amax(OVER), x.amin(OVER), (x == 0).sum(OVER)


def main() -> None:
    """Print a row per tensor."""
    options = arguments(__doc__ or "")
    rows = []
    header = ["shape", "layout", "dtype", "us", "GB/s", "/sum", "seed/", "var_mean/"]
    print("{:20} {:14} {:9} {:>8} {:>6} {:>6} {:>6} {:>9}".format(*header))
    for shape in QUICK if options.quick else SHAPES:
        for memory in (torch.contiguous_format, torch.channels_last):
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                x = torch.randn(shape).to(dtype).contiguous(memory_format=memory)
                view = view_of(x, 1)
                meter = choose_backend("auto", x.device).meter(
                    State.identity(shape[1]), Thresholds()
                )
                meter.fold(x, view)
                ways = {
                    "fmstats": lambda x=x, v=view, m=meter: m.try_fold(x) or m.fold(x, v),
                    "sum": lambda x=x: x.sum(),
                    "seed": lambda x=x: seed(x),
                    "var_mean": lambda x=x: var_mean(x),
                }
                if options.quick and dtype != torch.float32:
                    ways = {name: ways[name] for name in ("fmstats", "sum")}
                seconds = time_in_turn(ways, rounds=5 if options.quick else 11)
                ours = median(seconds["fmstats"])
                layout = str(memory).removeprefix("torch.")
                row = {
                    "shape": shape,
                    "layout": layout,
                    "dtype": str(dtype).removeprefix("torch."),
                    "bytes": x.nbytes,
                    "us": 1e6 * ours,
                    "gb_per_s": x.nbytes / ours / 1e9,
                    "fmstats/sum": ratio(seconds, "fmstats", "sum"),
                }
                for rival in ("seed", "var_mean"):
                    if rival in ways:
                        row[f"{rival}/fmstats"] = ratio(seconds, rival, "fmstats")
                rows.append(row)
                print(
                    f"{shape!s:20} {layout.removesuffix('_format'):14} {row['dtype']:9} "
                    f"{row['us']:8.1f} {row['gb_per_s']:6.1f} {row['fmstats/sum']:6.2f} "
                    f"{row.get('seed/fmstats', nan):6.1f} {row.get('var_mean/fmstats', nan):9.1f}"
                )
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
