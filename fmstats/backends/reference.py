"""The reference backend measures a channel at a time, in float64, in two passes, slowly.

Tests compare every other backend with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fmstats.backends.base import Backend
from fmstats.statistic.bins import Bins
from fmstats.statistic.clock import Clock
from fmstats.statistic.distribution import Array
from fmstats.statistic.fields import COUNTS, MOMENTS
from fmstats.statistic.float_order import INFINITY, at_places, place_of, places, to_float64
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import Positions, View


class ReferenceBackend(Backend):
    """This backend measures tensors in the most obvious way, for tests."""

    name = "reference"

    def describe(self) -> str:
        return "float64, two passes, one channel at a time; for tests"

    def accumulate(
        self,
        state: State,
        x: Tensor,
        view: View,
        thresholds: Thresholds,
        clock: Clock | None = None,
        positions: Positions | None = None,
    ) -> None:
        sizes = (view.channels, *(size for size, _ in view.dims))
        strides = (view.channel_stride, *(stride for _, stride in view.dims))
        channels = x.detach().as_strided(sizes, strides).flatten(1)
        groups = [channels]
        if positions is not None:
            numbers = positions.of(view).flatten()
            groups = [channels[:, numbers == k] for k in range(1, positions.groups + 1)]
        rows = [measure(to_float64(row), thresholds) for group in groups for row in group]
        if rows and any(group.numel() for group in groups):
            measured = dict.fromkeys(COUNTS, torch.int64) | dict.fromkeys(MOMENTS, torch.float64)
            measured |= dict.fromkeys(state.measures.requested, torch.float64)
            columns = {
                f: torch.tensor([row[f] for row in rows], dtype=dtype)
                for f, dtype in measured.items()
            }
            bins = count_bins(groups, state.measures.bins)
            batch = State.of(columns, state.measures, bins).to(x.device)
            (Clock(x.device) if clock is None else clock).stamp(batch)
            state.merge_(batch)


def measure(x: Tensor, thresholds: Thresholds) -> dict[str, float]:
    """Return the fields of one channel, `x` in float64."""
    at = places(x)
    finite = x[at.abs() < INFINITY]
    low, high = math.inf, -math.inf
    if finite.numel():
        low, high = at_places(torch.stack(places(finite).aminmax())).tolist()
    # In units in which no sum of squares is beyond float64: m2 is infinite where it truly is.
    unit = 2.0**-600 if finite.numel() and max(abs(low), abs(high)) > 2.0**400 else 1.0
    scaled = finite * unit
    mean = float(scaled.mean()) if finite.numel() else 0.0
    if finite.numel():
        mean += float((scaled - mean).mean())  # the rounding of the first sum
    return {
        "count": x.numel(),
        "nan": int((at.abs() > INFINITY).sum()),
        "pos_inf": int((at == INFINITY).sum()),
        "neg_inf": int((at == -INFINITY).sum()),
        "zeros": int((at.abs() <= place_of(thresholds.zero_tol)).sum()),
        "sat_low": saturated(at, thresholds.low, -1),
        "sat_high": saturated(at, thresholds.high, 1),
        "mean": mean / unit,
        "m2": float((scaled - mean).square().sum()) / unit / unit,
        "sum_abs": float(finite.abs().sum()),
        "m3": float((scaled - mean).pow(3).sum()) / unit / unit / unit,
        "m4": float((scaled - mean).pow(4).sum()) / unit / unit / unit / unit,
        "min": low,
        "max": high,
    }


def count_bins(groups: Sequence[Tensor], bins: Bins | None) -> Tensor | None:
    """Return the histograms of groups, each of (channels, elements): by search among the edges."""
    if bins is None:
        return None
    channels = [row for group in groups for row in group]
    rows = channels if bins.scope == "channel" else [group.flatten() for group in groups]
    return torch.stack([_histogram(to_float64(row).numpy(force=True), bins) for row in rows])


def _histogram(x: Array, bins: Bins) -> Tensor:
    x = x[np.isfinite(x)]
    signs = (x[x > 0], -x[x < 0])
    found = [np.searchsorted(bins.edges(), magnitudes, "right") for magnitudes in signs]
    counts = [np.bincount(places, minlength=bins.of_sign) for places in found]
    return torch.from_numpy(np.concatenate(counts))


def saturated(at: Tensor, bound: float | None, side: int) -> int:
    """Count the numbers at a bound or beyond it, above for a `side` of 1, below for -1."""
    if bound is None:
        return 0
    return int(((at.abs() <= INFINITY) & (side * at >= side * place_of(bound))).sum())
