"""`check_requested` tells whether sums that are made on request can be what some data gave."""

from __future__ import annotations

import numpy as np

from fmstats.statistic.distribution import Array
from fmstats.statistic.state import State
from fmstats.storage.faults import Layers, refuse

# Of the largest magnitude, or of a power of it, times the number of elements: what rounding may add
# or take. Wide, for this is to find damage, not inaccuracy.
_SLACK = 1e-3
_TINY = 1e-300  # what underflows loses its digits
# The sums of third and fourth powers of larger values may be beyond float64, or no numbers at all.
_LARGEST = 1e70


def check_requested(state: State, finite: Array, layers: Layers) -> None:
    """Refuse requested sums that no data can have given.

    Args:
        state: whose other fields are right.
        finite: the finite elements of each channel.
        layers: whose channels these are, in this order.

    Raises:
        FmstatsError: the first fault, with its layer, channel and value.
    """
    if not state.measures.sums:
        return
    for field in state.measures.requested:
        row = state[field].numpy()
        wrong = (finite == 0) & (row != 0)
        refuse(wrong, layers, field, row, "is not 0.0 with nothing finite")
    seen = {f: np.where(finite > 0, state[f].numpy(), 0.0) for f in ("mean", "min", "max")}
    largest = np.maximum(np.abs(seen["min"]), np.abs(seen["max"]))
    with np.errstate(all="ignore"):  # of what is beyond float64
        if "abs" in state.measures.sums:
            row = state["sum_abs"].numpy()
            _check_magnitudes(row, finite, seen["mean"], largest, layers)
        if "kurtosis" in state.measures.sums:
            _check_powers(state, finite, seen["max"] - seen["min"], largest, layers)


def _check_magnitudes(
    row: Array, finite: Array, mean: Array, largest: Array, layers: Layers
) -> None:
    refuse(row < 0, layers, "sum_abs", row, "is negative")
    most = finite * largest
    few = row <= most + _SLACK * most + _TINY  # which a NaN is not, either
    refuse(~few, layers, "sum_abs", row, "is more than the largest magnitude gives")
    little = row < finite * np.abs(mean) - _SLACK * most - _TINY
    refuse(little, layers, "sum_abs", row, "is less than the mean gives")


def _check_powers(
    state: State, finite: Array, width: Array, largest: Array, layers: Layers
) -> None:
    """Check third and fourth powers of deviations, none of which is more than `width`."""
    m2, m3, m4 = (state[field].numpy() for field in ("m2", "m3", "m4"))
    refuse(m4 < 0, layers, "m4", m4, "is negative")
    within = largest <= _LARGEST
    for field, row in (("m3", m3), ("m4", m4)):
        refuse(within & ~np.isfinite(row), layers, field, row, "is not finite")
    third, fourth = (_SLACK * finite * largest**power + _TINY for power in (3, 4))
    for field, wrong, fault in (
        ("m3", np.abs(m3) > m2 * width + third, "is more than the range gives"),
        ("m4", m4 > m2 * width * width + fourth, "is more than the range gives"),
        ("m4", m4 < m2 / np.maximum(finite, 1) * m2 - fourth, "is less than the variance gives"),
    ):
        refuse(within & wrong, layers, field, state[field].numpy(), fault)
