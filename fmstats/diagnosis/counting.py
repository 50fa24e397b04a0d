"""Count, in histograms, the elements of a layer that are very large or very small."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fmstats.diagnosis.observed import Observed
from fmstats.statistic.bins import Bins
from fmstats.statistic.distribution import Array


@dataclass(frozen=True)
class Counted:
    """Holds shares of elements, one a channel.

    Attributes:
        share: float64 (C,), NaN where there are none.
        of_channels: whether each is of its channel; else all are that of the layer.
    """

    share: Array
    of_channels: bool


def count_beyond(layer: Observed, magnitude: float) -> Counted | None:
    """Count the elements as large as `magnitude`, or larger, among the finite ones.

    Returns:
        None where no bin tells of such magnitudes.
    """
    found = layer.distribution
    if found is None or not _is_told(magnitude):
        return None
    return _make(layer, found.beyond(magnitude), found.total)


def count_below(layer: Observed, magnitude: float) -> Counted | None:
    """Count the elements smaller than `magnitude` among the finite ones that are not 0.

    Returns:
        As `count_beyond`.
    """
    found = layer.distribution
    if found is None or not _is_told(magnitude):
        return None
    nonzero = found.total - found.zeros
    return _make(layer, nonzero - found.beyond(magnitude), nonzero)


def _is_told(magnitude: float) -> bool:
    """Return whether a magnitude is within the bins; of those beyond, one bin holds all."""
    return Bins.SMALLEST <= magnitude <= Bins.LARGEST


def _make(layer: Observed, part: Array, whole: Array) -> Counted:
    share = np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
    bins = layer.stats.measures.bins
    of_channels = bins is not None and bins.scope == "channel"
    return Counted(np.broadcast_to(share, layer.stats.channels), of_channels)
