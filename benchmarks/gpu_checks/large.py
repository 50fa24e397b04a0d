"""Is a tensor of more than 2^31 elements counted to the last one?

Each tensor is one value everywhere but for a few marks, the first and the last element among them,
so that what the state has to say is known without a second pass over it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of
from gpu_checks.report import Report, Setup, Skipped

FAR = 1 << 31
OVER = 7 * 16 * 1024  # elements or positions beyond it, about
BASE = 1.0
# What is marked in every channel: where, as a share of each dim, and with what.
MARKS = (
    (0.0, 3.0),
    (0.1, math.nan),
    (0.25, -2.0),
    (0.5, 0.0),
    (0.75, math.inf),
    (0.9, -math.inf),
    (0.97, -0.0),
    (1.0, 1.5),
)
SPARE = 1 << 30  # bytes of the device's memory that are to stay free


@dataclass(frozen=True)
class Large:
    """Describes a large tensor.

    Attributes:
        elements: how many are allocated, by what is far.
        arrange: makes the tensor of a flat one; channels are in dim 1.
    """

    name: str
    dtype: torch.dtype
    elements: Callable[[int], int]
    arrange: Callable[[Tensor], Tensor]


def _planes(flat: Tensor) -> Tensor:
    return flat[: len(flat) // 98 * 98].view(-1, 2, 7, 7)


# planner.cpp chooses the kernel: rows, rows, columns, columns_one, ragged, strided.
LARGE = (
    Large(
        "2^31 positions of one channel, contiguous",
        torch.float8_e5m2,
        lambda far: far + OVER,
        lambda flat: flat.view(-1, 1),
    ),
    Large(
        "channels beyond 2^31, contiguous",
        torch.bfloat16,
        lambda far: far + OVER,
        lambda flat: flat.view(2, 4, -1),
    ),
    Large(
        "2^31 elements in all, channels last",
        torch.bfloat16,
        lambda far: far + OVER,
        lambda flat: flat.view(-1, 16),
    ),
    Large(
        "2^31 positions of each channel, channels last",
        torch.float8_e5m2,
        lambda far: 2 * (far + OVER),
        lambda flat: flat.view(-1, 2),
    ),
    Large(
        "2^31 positions of each channel, 7x7 planes",
        torch.float8_e5m2,
        lambda far: 2 * (far + OVER),
        _planes,
    ),
    Large(
        "2^31 positions of one channel, every other element",
        torch.float8_e5m2,
        lambda far: 2 * (far + OVER),
        lambda flat: flat[::2].unflatten(0, (-1, 1)),
    ),
)


def code_of(value: float, dtype: torch.dtype) -> int:
    """Return the bits of a number, as a signed integer of the dtype's size."""
    words = torch.int8 if dtype.itemsize == 1 else torch.int16
    return int(torch.tensor([value], dtype=torch.float32).to(dtype).view(words).item())


def fields_of(marks: Sequence[float], positions: int, base: float = BASE) -> dict[str, float]:
    """Return the statistic of a channel that is `base` but for its marks."""
    rest = positions - len(marks)
    finite = [value for value in marks if math.isfinite(value)]
    mean = (math.fsum(finite) + rest * base) / (rest + len(finite))
    squares = math.fsum((value - mean) ** 2 for value in finite)
    return {
        "count": positions,
        "nan": sum(map(math.isnan, marks)),
        "pos_inf": list(marks).count(math.inf),
        "neg_inf": list(marks).count(-math.inf),
        "zeros": list(marks).count(0.0),
        "sat_low": 0,
        "sat_high": 0,
        "mean": mean,
        "m2": squares + rest * (base - mean) ** 2,
        "min": min(base, *finite),
        "max": max(base, *finite),
    }


def marked(large: Large, far: int, device: torch.device) -> Tensor:
    """Return the tensor with its marks."""
    words = torch.int8 if large.dtype.itemsize == 1 else torch.int16
    code = code_of(BASE, large.dtype)
    flat = torch.full((large.elements(far),), code, dtype=words, device=device)
    x = large.arrange(flat)
    for channel in range(x.shape[1]):
        one = x.select(1, channel)
        for share, value in MARKS:
            place = tuple(round(share * (size - 1)) for size in one.shape)
            one[place] = code_of(value, large.dtype)
    return large.arrange(flat.view(large.dtype))


def check_large(setup: Setup, large: Large, far: int = FAR) -> str:
    """Measure one twice into a state, the second time in the hooks' fast way.

    Raises:
        Skipped: the device has not the memory.
        AssertionError: a field is not what it should be.
    """
    needed = large.elements(far) * large.dtype.itemsize
    if setup.on_gpu:
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(setup.device)
        if free < needed + SPARE:
            raise Skipped(f"needs {(needed + SPARE) / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
    x = marked(large, far, setup.device)
    view = view_of(x, 1)
    meter = setup.backend.meter(State.identity(view.channels, setup.device), Thresholds())
    meter.update(x, view)
    if not meter.try_update(x):
        meter.update(x, view)
    got = meter.state.to("cpu")
    values = [value for _, value in MARKS]
    want = fields_of(2 * values, 2 * view.positions)
    for field, expected in want.items():
        for channel in range(view.channels):
            value = got[field][channel].item()
            if field in ("mean", "m2"):
                assert math.isclose(value, expected, rel_tol=1e-6), (field, channel, value, want)
            else:
                assert value == expected, (field, channel, value, want)
    return f"{x.numel():,} elements, {view.positions:,} positions a channel"


def run(setup: Setup, report: Report) -> None:
    """Check all of `LARGE`, or the first and the third in a quick run."""
    for large in LARGE[:3:2] if setup.quick else LARGE:
        report.check(large.name, lambda large=large: check_large(setup, large))
