"""`check_words` tells whether numbers read from a file can be what some data gave."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fmstats.errors import FmstatsError
from fmstats.profiles.stacks import StackedLayer
from fmstats.statistic.channel_stats import Array
from fmstats.statistic.fields import COUNTS, FIELDS, FIRSTS, IDENTITY, MOMENTS, NEVER, NON_FINITE

# Of the range of a channel and of its largest magnitude: what rounding may put a mean outside of
# [min, max]. Wide, for this is to find damage, not inaccuracy.
_SLACK = 1e-3, 1e-6
# The sum of the squared distances of larger values may be beyond float64, and is infinite then.
_LARGEST = 1e140


def check_words(words: Array, layers: Mapping[str, StackedLayer]) -> None:
    """Refuse counts and moments that no data can have given.

    Args:
        words: int64 (len(FIELDS), channels), as in `fmstats.statistic.state.State`.
        layers: whose channels these are, in this order.

    Raises:
        FmstatsError: the first fault, with its layer, channel and value.
    """
    rows = dict(zip(FIELDS, words, strict=True))
    rows |= {field: rows[field].view(np.float64) for field in MOMENTS}
    finite = _check_counts(rows, layers)
    _check_saturation(rows, layers)
    _check_moments(rows, finite, layers)
    for field in FIRSTS:
        row = rows[field]
        _refuse(row < 0, layers, field, row, "is negative")
        known = (row != NEVER) & (finite == rows["count"])
        _refuse(known, layers, field, row, "is told of elements that all are finite")


def _check_counts(rows: Mapping[str, Array], layers: Mapping[str, StackedLayer]) -> Array:
    """Check the counts; return how many elements are finite."""
    count = rows["count"]
    _refuse(count < 0, layers, "count", count, "is negative")
    finite = count.copy()
    for field in COUNTS[1:]:
        row = rows[field]
        if not row.any():
            continue
        _refuse(row < 0, layers, field, row, "is negative")
        _refuse(row > count, layers, field, row, "is more than the count")
        if field in NON_FINITE:
            finite -= row
            _refuse(finite < 0, layers, field, row, "is more than the count leaves")
    zeros = rows["zeros"]
    _refuse(zeros > finite, layers, "zeros", zeros, "is more than the finite elements")
    return finite


def _check_saturation(rows: Mapping[str, Array], layers: Mapping[str, StackedLayer]) -> None:
    widths = [layer.channels for layer in layers.values()]
    for field, bound in (("sat_low", "low"), ("sat_high", "high")):
        row = rows[field]
        if row.any():
            unbounded = [getattr(layer.thresholds, bound) is None for layer in layers.values()]
            wrong = np.repeat(unbounded, widths) & (row > 0)
            _refuse(wrong, layers, field, row, "is counted without a bound")


def _check_moments(
    rows: Mapping[str, Array], finite: Array, layers: Mapping[str, StackedLayer]
) -> None:
    empty = finite == 0
    if empty.any():
        for field in MOMENTS:
            wrong = empty & (rows[field] != IDENTITY[field])
            fault = f"is not {IDENTITY[field]} with nothing finite"
            _refuse(wrong, layers, field, rows[field], fault)
    mean, m2, low, high = (
        np.where(empty, 0.0, rows[field]) if empty.any() else rows[field]
        for field in ("mean", "m2", "min", "max")
    )
    for field, row in (("min", low), ("max", high)):
        _refuse(~np.isfinite(row), layers, field, row, "is not finite")
    _refuse(low > high, layers, "min", low, "is more than the maximum")
    _refuse(~np.isfinite(mean), layers, "mean", mean, "is not finite")
    largest = np.maximum(np.abs(low), np.abs(high))
    overflowed = np.isposinf(m2) & (largest > _LARGEST)
    _refuse(~np.isfinite(m2) & ~overflowed, layers, "m2", m2, "is not finite")
    _refuse(m2 < 0, layers, "m2", m2, "is negative")
    slack = _SLACK[0] * high - _SLACK[0] * low + _SLACK[1] * largest
    with np.errstate(over="ignore"):
        outside = (mean < low - slack) | (mean > high + slack)
    _refuse(outside, layers, "mean", mean, "lies outside of minimum and maximum")


def _refuse(
    wrong: Array, layers: Mapping[str, StackedLayer], field: str, row: Array, fault: str
) -> None:
    if not wrong.any():
        return
    place = int(np.flatnonzero(wrong)[0])
    ends = np.cumsum([layer.channels for layer in layers.values()])
    number = int(np.searchsorted(ends, place, "right"))
    name, layer = list(layers.items())[number]
    channel = place - ends[number] + layer.channels
    raise FmstatsError(f"layer {name!r}: {field} of channel {channel} is {row[place]}: {fault}")
