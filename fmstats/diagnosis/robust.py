"""Estimate a spread that a few extreme values do not affect."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


def estimate_deviation(values: NDArray[np.float64], share: float = 0.5) -> float:
    """Estimate the standard deviation from distances to the median.

    Args:
        values: at least one, all finite.
        share: of the values that may be taken for right: 0.5 gives the median distance (MAD).

    Returns:
        The distance that this share of the values keeps, over that of a normal distribution.
    """
    distances = np.abs(values - np.median(values))
    kept = np.quantile(distances, share, method="linear" if share == 0.5 else "lower")
    return float(kept) / NormalDist().inv_cdf((1 + share) / 2)
