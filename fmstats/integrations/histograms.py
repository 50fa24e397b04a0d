"""Give histograms of layers as monitoring systems take them: with fixed or with fitted buckets."""

from __future__ import annotations

import math
from typing import Any

import fmstats

Buckets = list[tuple[float, int]]

_STEP = 2  # octaves of a fixed bucket
_LEAST = -12  # the exponent of the smallest edge beside 0


def has_histogram(stats: fmstats.ChannelStats) -> bool:
    """Tell whether the histogram of a layer, or of its channels, was measured."""
    return stats.measures.bins is not None


def list_buckets(stats: fmstats.ChannelStats) -> Buckets:
    """Return how many elements are up to some edges, of all channels together.

    Edges are the same for every layer and at any time: powers of 4 from 2**-12 to 2**14 and 65504,
    of either sign, 0 and infinity. An element that is a positive edge itself is above it.
    """
    found = stats.pooled().distribution
    bins = found.bins
    up_to = found.octaves()[0].cumsum().tolist()
    zero = len(up_to) // 2
    # Of a sign the place of an octave is 1 for the one that begins at 2**LOWEST_EXPONENT.
    places = range(_LEAST - bins.LOWEST_EXPONENT, bins.OCTAVES + 1, _STEP)
    edges = [
        bins.LARGEST if place == bins.OCTAVES else 2.0 ** (place + bins.LOWEST_EXPONENT)
        for place in places
    ]
    below = [(-edge, up_to[zero - 2 - p]) for p, edge in zip(places, edges, strict=True)]
    above = [(edge, up_to[zero + 1 + p]) for p, edge in zip(places, edges, strict=True)]
    return [*below[::-1], (0.0, up_to[zero]), *above, (math.inf, up_to[-1])]


def describe_raw(stats: fmstats.ChannelStats) -> dict[str, Any] | None:
    """Return the histogram of all channels together as `SummaryWriter.add_histogram_raw` takes it.

    None where nothing finite was seen. What is smaller than the bins is with the zeros, which so
    have a width: TensorBoard draws no other bucket.
    """
    whole = stats.pooled()
    count = int(whole.finite_count[0])
    if not count:
        return None
    found = whole.distribution
    low, high = float(whole.min[0]), float(whole.max[0])
    least = max(abs(low), abs(high)) * 1e-9 or 1.0
    small = found.bins.SMALLEST
    limits: list[float] = []
    counts: list[int] = []
    (bins,) = found.list_bins()
    for begin, end, inside in zip(bins["from"], bins["to"], bins["count"], strict=True):
        if begin >= -small and end <= small:
            begin, end = -small, small
        if limits and end <= limits[-1]:
            counts[-1] += int(inside)
            continue
        if not limits or begin > limits[-1]:  # a bucket begins at the limit before it
            limits.append(begin)
            counts.append(0)
        limits.append(max(end, begin + least))
        counts.append(int(inside))
    return {
        **{"min": low, "max": high, "num": count, "sum": float(whole.mean[0]) * count},
        **{"sum_squares": float(whole.rms[0]) ** 2 * count},
        **{"bucket_limits": limits, "bucket_counts": counts},
    }
