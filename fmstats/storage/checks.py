"""`check_state` tells whether numbers read from a file can be what some data gave."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fmstats.statistic.distribution import Array
from fmstats.statistic.fields import COUNTS, FIELDS, FIRSTS, IDENTITY, MOMENTS, NEVER, NON_FINITE
from fmstats.statistic.state import State
from fmstats.storage.faults import Layers, refuse
from fmstats.storage.histogram_checks import check_histograms
from fmstats.storage.requested_checks import check_requested

# Of the range of a channel and of its largest magnitude: what rounding may put a mean outside of
# [min, max]. Wide, for this is to find damage, not inaccuracy.
_SLACK = 1e-3, 1e-6
# The sum of the squared distances of larger values may be beyond float64, and is infinite then.
_LARGEST = 1e140


def check_state(state: State, layers: Layers) -> None:
    """Refuse counts, moments and histograms that no data can have given.

    Args:
        state: of all layers.
        layers: whose channels these are, in this order.

    Raises:
        FmstatsError: the first fault, with its layer, channel and value.
    """
    rows = {field: state[field].numpy() for field in FIELDS}
    finite = _check_counts(rows, layers)
    _check_saturation(rows, layers)
    _check_moments(rows, finite, layers)
    check_requested(state, finite, layers)
    check_histograms(state, finite, layers)
    for field in FIRSTS:
        row = rows[field]
        refuse(row < 0, layers, field, row, "is negative")
        known = (row != NEVER) & (finite == rows["count"])
        refuse(known, layers, field, row, "but all elements are finite")


def _check_counts(rows: Mapping[str, Array], layers: Layers) -> Array:
    """Check the counts; return how many elements are finite."""
    count = rows["count"]
    refuse(count < 0, layers, "count", count, "is negative")
    finite = count.copy()
    for field in COUNTS[1:]:
        row = rows[field]
        if not row.any():
            continue
        refuse(row < 0, layers, field, row, "is negative")
        refuse(row > count, layers, field, row, "is more than the count")
        if field in NON_FINITE:
            finite -= row
            refuse(finite < 0, layers, field, row, "is more than the count leaves")
    zeros = rows["zeros"]
    refuse(zeros > finite, layers, "zeros", zeros, "is more than the finite elements")
    return finite


def _check_saturation(rows: Mapping[str, Array], layers: Layers) -> None:
    widths = [layer.channels for layer in layers.values()]
    for field, bound in (("sat_low", "low"), ("sat_high", "high")):
        row = rows[field]
        if row.any():
            unbounded = [getattr(layer.thresholds, bound) is None for layer in layers.values()]
            wrong = np.repeat(unbounded, widths) & (row > 0)
            refuse(wrong, layers, field, row, "is counted without a bound")


def _check_moments(rows: Mapping[str, Array], finite: Array, layers: Layers) -> None:
    empty = finite == 0
    if empty.any():
        for field in MOMENTS:
            wrong = empty & (rows[field] != IDENTITY[field])
            fault = f"is not {IDENTITY[field]} with nothing finite"
            refuse(wrong, layers, field, rows[field], fault)
    mean, m2, low, high = (
        np.where(empty, 0.0, rows[field]) if empty.any() else rows[field]
        for field in ("mean", "m2", "min", "max")
    )
    for field, row in (("min", low), ("max", high)):
        refuse(~np.isfinite(row), layers, field, row, "is not finite")
    refuse(low > high, layers, "min", low, "is more than the maximum")
    refuse(~np.isfinite(mean), layers, "mean", mean, "is not finite")
    largest = np.maximum(np.abs(low), np.abs(high))
    overflowed = np.isposinf(m2) & (largest > _LARGEST)
    refuse(~np.isfinite(m2) & ~overflowed, layers, "m2", m2, "is not finite")
    refuse(m2 < 0, layers, "m2", m2, "is negative")
    slack = _SLACK[0] * high - _SLACK[0] * low + _SLACK[1] * largest
    with np.errstate(over="ignore"):
        outside = (mean < low - slack) | (mean > high + slack)
    refuse(outside, layers, "mean", mean, "lies outside of minimum and maximum")
