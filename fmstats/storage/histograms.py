"""Histograms are stored without their empty bins, one histogram after the other.

Three tensors tell them: of each histogram how many bins are not 0, of each of these its place in
the histogram, and its count.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fmstats.errors import FmstatsError
from fmstats.statistic.distribution import Array

SIZES, PLACES, COUNTS = "histogram_sizes", "histogram_places", "histogram_counts"
PLACE_TYPE = "U16"
COUNT_TYPES = ("U8", "U16", "U32", "I64")  # the first that holds all counts is taken
_COUNTS = tuple(np.dtype(name) for name in ("u1", "<u2", "<u4", "<i8"))


def pack_bins(bins: Array) -> dict[str, Array]:
    """Return the tensors that tell histograms, int64 (histograms, bins) of no negative number."""
    rows, places = np.nonzero(bins)
    counts = bins[rows, places]
    largest = counts.max(initial=0)
    narrowest = next(dtype for dtype in _COUNTS if largest <= np.iinfo(dtype).max)
    return {
        SIZES: np.bincount(rows, minlength=len(bins)).astype("<u2"),
        PLACES: places.astype("<u2"),
        COUNTS: counts.astype(narrowest),
    }


def unpack_bins(tensors: Mapping[str, Array], width: int) -> Array:
    """Return the histograms that tensors tell, int64 (histograms, width).

    Raises:
        FmstatsError: they do not go together, or a count is 0 or negative.
    """
    sizes, places, counts = (tensors[name] for name in (SIZES, PLACES, COUNTS))
    if not sizes.sum() == len(places) == len(counts):
        raise FmstatsError(
            f"its histograms do not go together: {sizes.sum()} bins, {len(places)} places, "
            f"{len(counts)} counts"
        )
    if (counts < 1).any():
        raise FmstatsError(f"a bin of a histogram counts {counts.min()}: it should be 1 or more")
    if (places >= width).any():
        raise FmstatsError(f"a histogram has a bin {places.max()}: there are {width}")
    rows = np.repeat(np.arange(len(sizes)), sizes)
    flat = rows * width + places
    if (np.diff(flat) <= 0).any():
        raise FmstatsError("the bins of a histogram are not in their order")
    bins = np.zeros((len(sizes), width), np.int64)
    bins.reshape(-1)[flat] = counts
    return bins
