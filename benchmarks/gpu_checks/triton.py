"""Does the triton backend give the same numbers, and how does it compare with the cuda backend?

Both measure the same tensors in turn, with every threshold on. Then the host's time of a hook of
each is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch

from fmstats.backends import choose_backend
from fmstats.errors import FmstatsError
from gpu_checks import bandwidth, parity
from gpu_checks.clock import rounds_of
from gpu_checks.report import SKIPPED, Report, Setup

SHAPES = (
    ((32, 256, 56, 56), "contiguous"),
    ((32, 256, 56, 56), "channels_last"),
    ((32, 512, 14, 14), "contiguous"),
    ((32, 512, 7, 7), "contiguous"),
    ((16, 1024, 1024), "last"),
)
DTYPES = (torch.float32, torch.bfloat16, torch.float8_e5m2)


def compare(
    shape: Sequence[int], layout: str, dtype: torch.dtype, setups: dict[str, Setup], rounds: int
) -> dict[str, Any]:
    """Return the row of one tensor: seconds of each backend's hook, measured alternately."""
    dim = -1 if layout == "last" else 1
    some = next(iter(setups.values()))
    copies = bandwidth.copies_of(shape, layout, dtype, some)
    ways = {}
    for name, setup in setups.items():
        update = bandwidth.update_of(copies[0], dim, bandwidth.THRESHOLDS["all"], setup)
        ways[name] = [partial(update, copy) for copy in copies]
    seconds = {name: median(each) for name, each in rounds_of(ways, some.device, rounds).items()}
    return {
        "shape": list(shape),
        "layout": layout,
        "dtype": str(dtype).removeprefix("torch."),
        "seconds": seconds,
        "triton/cuda": seconds["triton"] / seconds["cuda"],
    }


def run(setup: Setup, report: Report) -> None:
    """Check parity and determinism, and compare both backends."""
    try:
        ours = replace(setup, backend=choose_backend("triton", setup.device))
    except FmstatsError as error:
        report.note("the triton backend", SKIPPED, str(error))
        return
    parity.check_parity(ours, report)
    parity.check_determinism(ours, report)
    setups = {"cuda": setup, "triton": ours}
    rows: list[dict[str, Any]] = []
    report.figures["triton"] = rows
    rounds = 5 if setup.quick else 15

    def one(shape: Sequence[int], layout: str, dtype: torch.dtype) -> str:
        rows.append(compare(shape, layout, dtype, setups, rounds))
        return f"triton/cuda {rows[-1]['triton/cuda']:.2f}"

    for shape, layout in SHAPES[:2] if setup.quick else SHAPES:
        for dtype in DTYPES[:2] if setup.quick else DTYPES:
            name = f"{tuple(shape)}, {layout}, {str(dtype).removeprefix('torch.')}"
            report.check(name, partial(one, shape, layout, dtype))

    def tiny() -> str:
        report.figures["hook_us"] = found = {
            name: bandwidth.measure_hook(each, 11 if setup.quick else 51)["added"]
            for name, each in setups.items()
        }
        return ", ".join(f"{name} adds {us:.2f} us" for name, us in found.items())

    report.check("the host's time of a hook", tiny)
