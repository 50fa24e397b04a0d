"""`check_histograms` tells whether histograms can be of the data that other fields are of."""

from __future__ import annotations

import numpy as np

from fmstats.statistic.bins import Bins
from fmstats.statistic.distribution import Array
from fmstats.statistic.state import State
from fmstats.storage.faults import Layers, refuse_histogram


def check_histograms(state: State, finite: Array, layers: Layers) -> None:
    """Refuse histograms that do not count all elements that are finite and not 0, or more.

    Args:
        state: whose other fields are right.
        finite: the finite elements of each channel.
        layers: whose channels these are, in this order.

    Raises:
        FmstatsError: the first fault, with its layer and, if it has its own histogram, its channel.
    """
    bins = state.measures.bins
    if bins is None or state.bins is None:
        return
    counts, widths = state.bins.numpy(), [layer.channels for layer in layers.values()]
    refuse_histogram(counts.min(1, initial=0) < 0, layers, bins, "has a negative count")
    # Under a tolerance the zeros are more than what is exactly 0.
    exact = np.repeat([layer.thresholds.zero_tol == 0 for layer in layers.values()], widths)
    zeros = state["zeros"].numpy()
    least, most = finite - zeros, finite - np.where(exact, zeros, 0)
    low = np.where(finite > 0, state["min"].numpy(), np.inf)
    high = np.where(finite > 0, state["max"].numpy(), -np.inf)
    if bins.scope == "layer":
        least, most = (_join(np.add, row, widths, 0) for row in (least, most))
        low, high = _join(np.minimum, low, widths, np.inf), _join(np.maximum, high, widths, -np.inf)
    total, known = counts.sum(1), "elements than are finite and not zero"
    refuse_histogram(total > most, layers, bins, f"counts more {known}")
    refuse_histogram(total < least, layers, bins, f"counts fewer {known}")
    wrong = _count_outside(bins, counts, low, high) > 0
    refuse_histogram(wrong, layers, bins, "counts elements outside of minimum and maximum")


def _join(join: np.ufunc, row: Array, widths: list[int], nothing: float) -> Array:
    """Join the numbers of the channels of each layer; `nothing` is of a layer without channels."""
    joined = np.full(len(widths), nothing, row.dtype)
    some = np.array(widths, np.int64) > 0
    if some.any():
        begins = np.cumsum([0, *widths[:-1]])
        joined[some] = join.reduceat(row, begins[some])
    return joined


def _count_outside(bins: Bins, counts: Array, low: Array, high: Array) -> Array:
    """Count the bins of each histogram that lie outside of a range and are not empty."""
    rows, places = np.nonzero(counts)
    edges = np.concatenate([[0.0], bins.edges(), [np.inf]])
    near, far = edges[places % bins.of_sign], edges[places % bins.of_sign + 1]
    negative = places >= bins.of_sign
    begin, end = np.where(negative, -far, near), np.where(negative, -near, far)
    outside = (begin > high[rows]) | (end < low[rows])
    return np.bincount(rows[outside], minlength=len(counts))
