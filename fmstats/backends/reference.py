"""The reference backend: one channel at a time, float64, two passes, obviously right, slow.

Tests compare every other backend with it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fmstats.backends.base import Backend
from fmstats.layout import View
from fmstats.statistic import COUNTS, FIELDS, MOMENTS, State, Thresholds


class ReferenceBackend(Backend):
    """See the module."""

    name = "reference"

    def describe(self) -> str:
        return "float64, two passes, one channel at a time; for tests"

    def accumulate(self, state: State, x: Tensor, view: View, thresholds: Thresholds) -> None:
        sizes = (view.channels, *(size for size, _ in view.dims))
        strides = (view.channel_stride, *(stride for _, stride in view.dims))
        channels = x.detach().as_strided(sizes, strides)
        rows = [measure(channels[c].to(torch.float64), thresholds) for c in range(view.channels)]
        if view.positions > 0 and rows:
            columns = {f: [row[f] for row in rows] for f in FIELDS}
            dtypes = dict.fromkeys(COUNTS, torch.int64) | dict.fromkeys(MOMENTS, torch.float64)
            fields = {f: torch.tensor(columns[f], dtype=dtypes[f]) for f in FIELDS}
            state.merge_(State.of(fields).to(x.device))


def measure(x: Tensor, thresholds: Thresholds) -> dict[str, float]:
    """The fields of one channel, `x` in float64."""
    finite = x[torch.isfinite(x)]
    mean = float(finite.mean()) if finite.numel() else 0.0
    if finite.numel():
        mean += float((finite - mean).mean())  # the rounding of the first sum
    low = math.nan if thresholds.low is None else thresholds.low
    high = math.nan if thresholds.high is None else thresholds.high
    return {
        "count": x.numel(),
        "nan": int(torch.isnan(x).sum()),
        "pos_inf": int((x == math.inf).sum()),
        "neg_inf": int((x == -math.inf).sum()),
        "zeros": int((x.abs() <= thresholds.zero_tol).sum()),
        "sat_low": int((x <= low).sum()),
        "sat_high": int((x >= high).sum()),
        "mean": mean,
        "m2": float((finite - mean).square().sum()),
        "min": float(finite.min()) + 0.0 if finite.numel() else math.inf,
        "max": float(finite.max()) + 0.0 if finite.numel() else -math.inf,
    }
