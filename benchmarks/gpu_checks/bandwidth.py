"""How fast does a hook read a tensor, beside `x.sum()`, a copy, and what was predicted?

`seconds` of a row is with every threshold on, as predict.py predicts; `plain` with none, as most
layers have. GB/s are of what is read; a copy reads and writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from hardware.gpus import GPUS, Gpu
from hardware.sass import SassError
from interleave import print_line, time_in_turn
from predict import SHAPES as PREDICTED
from predict import kernel_for, time_of
from rivals import do_nothing
from torch import Tensor, nn

import fmstats
from fmstats import FmstatsError
from fmstats.backends.cuda import nvrtc
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of
from gpu_checks.clock import rounds_of
from gpu_checks.parity import THRESHOLDS
from gpu_checks.report import Report, Setup

SHAPES = (
    *PREDICTED,
    ((64, 64, 112, 112), "contiguous"),
    ((64, 64, 112, 112), "channels_last"),
    ((8, 2048, 7, 7), "contiguous"),
    ((8, 2048, 7, 7), "channels_last"),
    ((64, 1000), "last"),
)
QUICK = tuple(PREDICTED[:5])
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)
QUICK_DTYPES = DTYPES[:2]
TOGETHER = 512 << 20  # bytes of all copies: several times any second-level cache
MOST_COPIES = 64
TINY = (4, 8)
HEADER = (
    "tensor",
    "layout",
    "dtype",
    "kernel",
    "us",
    "plain",
    "GB/s",
    "/sum",
    "/copy",
    "predicted",
)
WIDTHS = (20, 13, 13, 12, 8, 8, 6, 6, 6, 9)


def gpu_of(name: str, multiprocessors: int) -> Gpu | None:
    """Return the table's GPU that a device is, by its driver's name and its memory size."""
    words = re.split(r"[\s-]+", name)
    for gpu in GPUS.values():
        # The table's are SXM boards, A100 the one of 80 GB.
        same = gpu.name in words and gpu.multiprocessors == multiprocessors
        if same and not {"PCIe", "NVL", "40GB", "MIG"} & set(words):
            return gpu
    return None


def device_gpu(device: torch.device) -> Gpu | None:
    if device.type != "cuda":
        return None
    found = torch.cuda.get_device_properties(device)
    return gpu_of(found.name, found.multi_processor_count)


def copies_of(shape: Sequence[int], layout: str, dtype: torch.dtype, setup: Setup) -> list[Tensor]:
    """Make random tensors that a cache does not hold together."""
    x = torch.randn(*shape, device=setup.device)
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    x = x.to(dtype)
    count = min(MOST_COPIES, 1 + TOGETHER // x.nbytes) if setup.on_gpu else 1
    return [x, *(torch.empty_like(x).copy_(x) for _ in range(count - 1))]


def update_of(
    x: Tensor, dim: int, thresholds: Thresholds, setup: Setup
) -> Callable[[Tensor], object]:
    """Return what a hook runs for tensors like this one."""
    view = view_of(x, dim)
    state = State.identity(view.channels, setup.device)
    meter = setup.backend.meter(state, thresholds)
    meter.update(x, view)
    return lambda other: meter.try_update(other) or meter.update(other, view_of(other, dim))


def can_sum(x: Tensor) -> bool:
    try:
        x.flatten()[:8].sum()
    except (RuntimeError, NotImplementedError):  # no sum of 8-bit floats
        return False
    return True


def measure(
    shape: Sequence[int], layout: str, dtype: torch.dtype, setup: Setup, rounds: int
) -> dict[str, Any]:
    """Return the row of one tensor."""
    dim = -1 if layout == "last" else 1
    copies = copies_of(shape, layout, dtype, setup)
    x = copies[0]
    every = update_of(x, dim, THRESHOLDS["all"], setup)
    plain = update_of(x, dim, THRESHOLDS["none"], setup)
    target = torch.empty_like(x)
    ways = {
        "hook": [partial(every, c) for c in copies],
        "plain": [partial(plain, c) for c in copies],
        "copy": [partial(target.copy_, c) for c in copies],
    }
    if can_sum(x):
        ways["sum"] = [c.sum for c in copies]
    found = rounds_of(ways, setup.device, rounds)
    seconds = {name: median(each) for name, each in found.items()}
    return {
        "shape": list(shape),
        "layout": layout,
        "dtype": str(dtype).removeprefix("torch."),
        "bytes": x.nbytes,
        "copies": len(copies),
        "seconds": seconds["hook"],
        "plain_seconds": seconds["plain"],
        "sum_seconds": seconds.get("sum"),
        "copy_seconds": seconds["copy"],
        "gb_per_s": x.nbytes / seconds["plain"] / 1e9,
        "sum_gb_per_s": x.nbytes / seconds["sum"] / 1e9 if "sum" in seconds else None,
        "copy_gb_per_s": 2 * x.nbytes / seconds["copy"] / 1e9,
        "plain/sum": seconds["plain"] / seconds["sum"] if "sum" in seconds else None,
        "plain/copy": seconds["plain"] / seconds["copy"],
    }


def predict_row(row: dict[str, Any], gpu: Gpu | None) -> str | None:
    """Put the kernel and the predictions into a row; return why there are none, or None."""
    row |= {"kernel": None, "predicted_seconds": None, "predicted_plain_seconds": None}
    dtype = getattr(torch, row["dtype"])
    x = torch.empty(row["shape"], dtype=dtype, device="meta")
    if row["layout"] == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    view = view_of(x, -1 if row["layout"] == "last" else 1)
    try:
        row["kernel"] = kernel_for(view, dtype, gpu or GPUS["H100"])
        if gpu is None:
            return "the model has no figures of this GPU"
        row["predicted_seconds"] = time_of(view, dtype, nvrtc.ALL, gpu)
        row["predicted_plain_seconds"] = time_of(view, dtype, nvrtc.PLAIN, gpu)
    except (SassError, FmstatsError) as error:
        return str(error)
    return None


def measure_hook(setup: Setup, rounds: int) -> dict[str, float]:
    """Return the host's microseconds that a hook adds to a call of a tiny layer."""
    x = torch.randn(TINY, device=setup.device)
    layers = {way: nn.ReLU() for way in ("bare", "empty", "fmstats")}
    layers["empty"].register_forward_hook(do_nothing)

    def call(layer: nn.Module) -> None:
        for _ in range(100):  # fewer than the device's queue holds
            layer(x)

    with torch.inference_mode(), fmstats.track(layers["fmstats"], backend=setup.backend.name):
        seconds: dict[str, list[float]] = {way: [] for way in layers}
        for _ in range(rounds):
            for way, layer in layers.items():
                setup.wait()
                found = time_in_turn({way: partial(call, layer)}, 1, least=0.0)
                seconds[way].append(found[way][0] / 100)
        setup.wait()
    us = {way: 1e6 * median(each) for way, each in seconds.items()}
    return us | {"added": us["fmstats"] - us["bare"], "added_by_empty": us["empty"] - us["bare"]}


def show(row: dict[str, Any]) -> None:
    predicted = row["predicted_seconds"]
    print_line(
        (
            tuple(row["shape"]),
            row["layout"],
            row["dtype"],
            row["kernel"],
            row["seconds"] * 1e6,
            row["plain_seconds"] * 1e6,
            f"{row['gb_per_s']:.0f}",
            row["plain/sum"],
            row["plain/copy"],
            predicted and predicted * 1e6,
        ),
        WIDTHS,
    )


def run(setup: Setup, report: Report) -> None:
    """Measure all tensors, then the hook of a tiny one."""
    shapes, dtypes = (QUICK, QUICK_DTYPES) if setup.quick else (SHAPES, DTYPES)
    rounds = 7 if setup.quick else 21
    gpu = device_gpu(setup.device)
    rows: list[dict[str, Any]] = []
    report.figures["hooks"] = rows
    unpredicted = set()
    print_line(HEADER, WIDTHS)

    def one(shape: Sequence[int], layout: str, dtype: torch.dtype) -> str:
        row = measure(shape, layout, dtype, setup, rounds)
        why = predict_row(row, gpu)
        unpredicted.update([why] if why else [])
        rows.append(row)
        show(row)
        return f"{row['gb_per_s']:.0f} GB/s"

    for shape, layout in shapes:
        for dtype in dtypes:
            name = f"{tuple(shape)}, {layout}, {str(dtype).removeprefix('torch.')}"
            report.check(name, partial(one, shape, layout, dtype))
    if unpredicted:
        report.note("predictions", "skipped", "; ".join(sorted(unpredicted)))

    def tiny() -> str:
        report.figures["hook_us"] = found = measure_hook(setup, 11 if setup.quick else 51)
        return ", ".join(f"{name} {us:.2f} us" for name, us in found.items())

    report.check(f"the host's time of a hook, ReLU on {TINY}", tiny)
