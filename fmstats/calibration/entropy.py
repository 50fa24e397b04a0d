"""Find the range that keeps most information, as TensorRT does (Migacz, GTC 2017).

Of the magnitudes there is a histogram of 2048 equal bins. For each threshold, what is beyond it
goes into the last bin below; the other bins are merged into as many as there are codes of one sign,
and spread again over those that are not empty. The threshold is taken at which the first histogram
diverges least from the second (Kullback and Leibler).
"""

from __future__ import annotations

import numpy as np

from fmstats.calibration.rows import Row
from fmstats.calibration.schemes import Scheme
from fmstats.statistic.distribution import Array

_BINS = 2048
_STEP = 8  # bins from one threshold to the next


def find_least_divergence(row: Row, scheme: Scheme) -> tuple[float, float]:
    """Return the range whose numbers, rounded, diverge least from all.

    Unlike the histograms of TensorRT, which are counted at that width, these are made of bins that
    grow with the magnitude: within one, numbers are taken to be spread evenly. Zeros are left out,
    which every scheme holds exactly.

    Args:
        row: of two different numbers or more.
        scheme: of integers.
    """
    found = row.distribution.magnitudes()
    largest = float(found.edges[0, -1])
    counts = found.rebinned(np.linspace(0.0, largest, _BINS + 1))[0]
    counts[0] = max(counts[0] - float(found.zeros[0]), 0.0)
    one_sided = scheme.affine and (row.low >= 0 or row.high <= 0)
    levels = 256 if one_sided else 128
    kept = np.arange(levels, _BINS + 1, _STEP)
    divergences = [_diverge(counts, int(bins), levels) for bins in kept]
    threshold = largest * int(kept[int(np.argmin(divergences))]) / _BINS
    return max(row.low, -threshold), min(row.high, threshold)


def _diverge(counts: Array, kept: int, levels: int) -> float:
    """Return the divergence that clipping behind so many bins, and rounding the others, makes."""
    inside = counts[:kept]
    wanted = inside.copy()
    wanted[-1] += counts[kept:].sum()
    begins = -(-np.arange(levels) * kept // levels)  # rounded up
    filled = inside > 0
    mean = np.add.reduceat(inside, begins) / np.maximum(np.add.reduceat(filled, begins), 1)
    made = np.repeat(mean, np.diff(begins, append=kept)) * filled
    if not made.any() or (made[-1] == 0 and wanted[-1] > 0):
        return float("inf")
    there = wanted > 0
    p, q = wanted[there] / wanted.sum(), made[there] / made.sum()
    return float((p * np.log(p / q)).sum())
