"""Find heavy tails, switches, and layers that give one number, by measures on request."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from fmstats.diagnosis.kinds import is_gate
from fmstats.diagnosis.observed import (
    FindingText,
    Mask,
    Observed,
    Verdict,
    enough,
    enough_whole,
    is_constant,
    name_channels,
)
from fmstats.diagnosis.thresholds import RuleThresholds
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.distribution import Array, Distribution

# Kernels promise moments to this share of the sums that they are made of.
_ROUNDING = 1e-6
# Of a switch, each of the two values has this share of the elements or more: else one of them is
# what usually comes, and the other an exception.
_LEAST_SIDE = 0.1
# Numbers within an eighth of each other are as good as one: two bins of 16 an octave.
_FINE, _NEAR = 4, 2


def heavy_tails(layer: Observed, thresholds: RuleThresholds) -> Verdict | None:
    """Find channels whose elements, apart from zeros, have a large kurtosis."""
    stats, limit = layer.stats, thresholds["tails"]
    if "kurtosis" not in stats.measures.names:
        return None
    judged, kurtosis = enough(layer, thresholds), kurtosis_of_nonzero(stats)
    many = stats.finite_count - stats.zeros >= thresholds["elements"]

    def describe(where: Mask) -> FindingText:
        largest = float(kurtosis[where].max())
        message = (
            f"{name_channels(where)}: kurtosis up to {largest:.4g} without zeros, so that elements "
            f"are {np.sqrt(largest):.3g} standard deviations off the mean, or farther"
        )
        return FindingText(message, {"kurtosis": largest})

    return Verdict(judged, judged & many & (kurtosis > limit), describe)


def kurtosis_of_nonzero(stats: ChannelStats) -> Array:
    """Return the kurtosis of the elements that are not 0, of each channel.

    Else the many zeros of a ReLU would make a kurtosis of whatever comes beside them.

    Returns:
        float64 (C,), NaN where it is not known, as where nearly all elements are equal.
    """
    n, zeros = stats.finite_count.astype(float), stats.zeros.astype(float)
    rest = n - zeros
    mean, m2, m3, m4 = (stats.state[field].numpy() for field in ("mean", "m2", "m3", "m4"))
    with np.errstate(all="ignore"):
        # Moments about the mean of the rest, less those of the zeros.
        centre = n * mean / rest
        step = mean - centre
        second = m2 + n * step**2 - zeros * centre**2
        of_zeros = zeros * centre**4
        fourth = m4 + step * (4 * m3 + step * (6 * m2 + n * step**2)) - of_zeros
        kurtosis = rest * fourth / second**2
        sure = (second > 0) & (rest * _ROUNDING * of_zeros / second**2 < 1)
    return np.where(sure & np.isfinite(kurtosis), kurtosis, np.nan)


def switch(layer: Observed, thresholds: RuleThresholds) -> Verdict | None:
    """Find channels of gates that take about two values, each of them often.

    No distribution has a kurtosis below 1 + skewness^2, and only one of two values has just that
    (Pearson 1916). The two values, and how often each comes, follow from the other moments.
    """
    stats, limit = layer.stats, thresholds["switch"]
    if "kurtosis" not in stats.measures.names or not is_gate(layer):
        return None
    judged = enough(layer, thresholds)
    skewness, kurtosis = stats.skewness, stats.kurtosis  # NaN of constant channels
    root = np.sqrt(np.square(skewness) + 4)
    of_high = (1 - skewness / root) / 2
    std = np.sqrt(stats.variance(0))
    low, high = (stats.mean + std * (skewness + side * root) / 2 for side in (-1, 1))
    likeness = (1 + np.square(skewness)) / kurtosis
    both = np.minimum(of_high, 1 - of_high) >= _LEAST_SIDE

    def describe(where: Mask) -> FindingText:
        numbers = {
            "low": float(np.median(low[where])),
            "high": float(np.median(high[where])),
            "share_of_high": float(np.median(of_high[where])),
            "likeness": float(likeness[where].min()),
        }
        message = (
            f"{name_channels(where)}: about {numbers['low']:.2f} or {numbers['high']:.2f}, and "
            f"little between; {100 * numbers['share_of_high']:.2g} % of the elements at the upper "
            "one, in the channel in the middle"
        )
        return FindingText(message, numbers)

    return Verdict(judged, judged & both & (likeness > limit), describe)


def concentrated(layer: Observed, thresholds: RuleThresholds) -> Verdict | None:
    """Find layers that nearly always give one number, which is not 0, and yet are not constant.

    Of histograms of channels it is the channel in the middle, among those that vary.
    """
    found = layer.distribution
    if found is None:
        return None
    judged, none = enough_whole(layer, thresholds), np.zeros(1, dtype=bool)
    if found.bins.resolution < _FINE:
        describe = partial(_describe, share=math.nan, centre=math.nan, whose="")
        coarse = f"a histogram of {1 << _FINE} or more bins an octave is needed (resolution=)"
        return Verdict(none, none, describe, coarse)
    by_channel = found.bins.scope == "channel"
    varying = enough(layer, thresholds) & ~is_constant(layer, thresholds)
    varying &= ~layer.stats.never_active
    rows = varying if by_channel else np.array([varying.any()])
    share, centre = _middle(*_densest(found), rows)
    whose = " of the channel in the middle" if by_channel else ""
    describe = partial(_describe, share=share, centre=centre, whose=whose)
    return Verdict(judged, judged & (share > thresholds["concentrated"]), describe)


def _middle(shares: Array, centres: Array, chosen: Mask) -> tuple[float, float]:
    """Return the median share among those chosen, and where it is; NaN without any."""
    order = np.flatnonzero(chosen)[np.argsort(shares[chosen])]
    if not order.size:
        return math.nan, math.nan
    middle = order[len(order) // 2]
    return float(shares[middle]), float(centres[middle])


def _densest(found: Distribution) -> tuple[Array, Array]:
    """Return the largest share of elements, of one sign, that are near each other, and where."""
    width, end = _NEAR << (found.bins.resolution - _FINE), found.bins.of_sign - 1
    # Without what is below or beyond all bins, where numbers may be far from each other.
    signs = [slice(1, end), slice(found.bins.of_sign + 2, -1)]
    places = np.concatenate([np.arange(found.counts.shape[1])[sign][: 1 - width] for sign in signs])
    ends = np.cumsum(np.pad(found.counts, ((0, 0), (1, 0))), 1)
    sums = ends[:, places + width] - ends[:, places]
    best = places[sums.argmax(1)]
    rows = np.arange(len(best))
    centres = (found.edges[rows, best] + found.edges[rows, best + width]) / 2
    return sums.max(1) / np.maximum(found.total, 1), centres


def _describe(where: Mask, share: float, centre: float, whose: str) -> FindingText:
    message = (
        f"{100 * share:.4g} % of the elements{whose} are within an eighth of each other, near "
        f"{centre:.3g}: what differs between inputs is in the rest"
    )
    return FindingText(message, {"share": share, "near": centre})
