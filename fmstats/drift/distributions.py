"""Measure how far distributions moved from those of a baseline, by histograms of the same bins.

Chance is known of numbers that add up over samples. So it is judged by what the effects are made
of: differences of shares, and of cumulated shares, in parts of the distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fmstats.drift.effects import LIMIT
from fmstats.statistic.bins import Bins
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.distribution import Array, Distribution, edges_between

# A part has a twentieth of the elements or more, and at least five of the smaller side: chance and
# logarithms are wild where nearly nothing is.
_PARTS, _LEAST_ELEMENTS = 20, 5

DISTRIBUTION = ("wasserstein", "psi", "js")
SHARES = "shares"  # makes both PSI and JS, which therefore have one score


@dataclass(frozen=True)
class DistributionEffects:
    """Holds the changes of the distributions of one layer: of each channel, or of all together.

    With nothing finite seen on one side, all are NaN.

    Attributes:
        scope: "channel": arrays of length C; "layer": of length 1.
        wasserstein: by how much elements would have to move, on average, to make one distribution
            of the other (Wasserstein-1), in standard deviations of the baseline.
        psi: population stability index, the sum of (p - q) ln(p / q) over parts.
        js: Jensen-Shannon divergence over parts, in bits: 0 of equal shares, 1 of disjoint ones.
    """

    scope: str
    wasserstein: Array
    psi: Array
    js: Array

    def of(self, effect: str) -> Array:
        """Return one of `DISTRIBUTION` by name."""
        values: Array = getattr(self, effect)
        return values


def find_bins(layers: Sequence[ChannelStats]) -> Bins | None:
    """Return the bins of all of these; None where one has no histograms, or others."""
    bins = [stats.measures.bins for stats in layers]
    return bins[0] if bins.count(bins[0]) == len(bins) else None


def describe_bins(
    now: ChannelStats, baseline: ChannelStats, shards: Sequence[ChannelStats]
) -> list[str]:
    """Say why distributions were not compared, or why they do not count; nothing without any."""
    mine, theirs = now.measures.bins, baseline.measures.bins
    if mine is None and theirs is None:
        return []
    if mine != theirs:
        sides = [str(bins or "none") for bins in (mine, theirs)]
        return [f"distributions were not compared: {sides[0]} here, {sides[1]} in the baseline"]
    if not shards:
        return ["distributions do not count: only calibration shows how they differ by chance"]
    if find_bins([now, *shards]) is None:
        return [f"distributions do not count: not all shards of the baseline have {mine}"]
    return []


@dataclass(frozen=True)
class Ruler:
    """Measures distributions of a layer against those of its baseline; a row is a histogram.

    Attributes:
        baseline: what is compared with.
        shares: of its elements, in each place of `Distribution` (rows, places).
        widths: of these places, within what was seen (rows, places).
        ends: the place before which each part ends (rows, parts); parts without places come last.
        sizes: of parts, the mean of the shares on both sides.
    """

    baseline: ChannelStats
    shares: Array
    widths: Array
    ends: Array
    sizes: Array

    @classmethod
    def between(cls, now: ChannelStats, baseline: ChannelStats) -> Ruler:
        """Return that of two layers with the same bins, in parts that both together fill."""
        found, before = now.distribution, baseline.distribution
        one, other = _by_histogram(now), _by_histogram(baseline)
        with np.errstate(over="ignore"):  # where nothing was seen
            low, high = np.minimum(one.min, other.min), np.maximum(one.max, other.max)
            widths = np.diff(edges_between(before.bins, low, high))
        few = np.maximum(np.minimum(found.total, before.total), _LEAST_ELEMENTS)
        least = np.maximum(1 / _PARTS, _LEAST_ELEMENTS / few)
        middle = (_share(found) + _share(before)) / 2
        ends = _divide(middle, least)
        return cls(other, _share(before), widths, ends, _join(middle, ends))

    def measure(self, now: ChannelStats) -> DistributionEffects:
        """Return how far a layer is from the baseline."""
        found, whole = now.distribution, _by_histogram(now)
        known = (whole.finite_count > 0) & (self.baseline.finite_count > 0)
        # Bins do not tell where in them elements are, but the means do, and cannot be farther off.
        distance = np.fmax(self._distance(found), np.abs(whole.mean - self.baseline.mean))
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = np.where(distance == 0, 0.0, distance / self._std)
        p, q = _join(_share(found), self.ends), _join(self.shares, self.ends)
        counts = whole.finite_count, self.baseline.finite_count
        return DistributionEffects(
            found.bins.scope,
            np.where(known, np.minimum(moved, LIMIT), np.nan),
            np.where(known, _psi(p, q, *counts), np.nan),
            np.where(known, _js(p, q), np.nan),
        )

    def standardise(self, now: ChannelStats) -> dict[str, Array]:
        """Return what chance is judged of, (rows, parts) each; NaN of parts without places.

        Under "wasserstein" the difference of cumulated shares, integrated over each part, in
        standard deviations of the baseline: the absolute values add up to the distance, or to less
        where signs change within a part. Under `SHARES` the difference of shares over the root of
        the part's size: where it is small, the squares add up to PSI, and to 8 ln(2) times JS.
        """
        change = _share(now.distribution) - self.shares
        after = change.cumsum(1)
        area = _join(self.widths * (after - change / 2), self.ends)
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = np.where(self._std[:, None] > 0, area / self._std[:, None], np.nan)
        return {"wasserstein": moved, SHARES: _join(change, self.ends) / np.sqrt(self.sizes)}

    @property
    def _std(self) -> Array:
        return np.asarray(np.sqrt(self.baseline.variance(0)))

    def _distance(self, found: Distribution) -> Array:
        """Integrate |F - G|, both of which are straight within a place."""
        change = _share(found) - self.shares
        right = change.cumsum(1)
        left = right - change
        sizes = np.abs(left) + np.abs(right)
        # Where the sign changes there are two triangles.
        crossed = (np.square(left) + np.square(right)) / np.where(sizes > 0, sizes, 1.0)
        mean = np.where(left * right < 0, crossed, sizes) / 2
        return np.asarray((mean * self.widths).sum(1))


def _by_histogram(stats: ChannelStats) -> ChannelStats:
    """Return the statistics with a channel for each histogram."""
    bins = stats.measures.bins
    return stats.pooled() if bins is not None and bins.scope == "layer" else stats


def _share(found: Distribution) -> Array:
    return np.asarray(found.counts / np.maximum(found.total, 1)[:, None])


def _divide(shares: Array, least: Array) -> Array:
    """Divide the places of each row into parts of so much or more; see `Ruler.ends`."""
    rows, places = shares.shape
    sums = shares.cumsum(1)
    start, ends = np.zeros(rows), []
    for _ in range(_PARTS):
        reached = sums >= (start + least * (1 - 1e-9))[:, None]
        end = np.where(reached.any(1), reached.argmax(1) + 1, places)
        start = sums[np.arange(rows), end - 1]
        end = np.where(sums[:, -1] - start < least * (1 - 1e-9), places, end)  # too little is left
        ends.append(end)
    ends[-1][:] = places
    return np.stack(ends, 1)


def _join(values: Array, ends: Array) -> Array:
    """Sum the values of places over parts, (rows, parts); NaN of parts without places."""
    sums = np.take_along_axis(np.pad(values.cumsum(1), ((0, 0), (1, 0))), ends, 1)
    empty = np.diff(ends, prepend=0) == 0
    return np.where(empty, np.nan, np.diff(sums, prepend=0.0))


def _psi(p: Array, q: Array, *counts: Array) -> Array:
    """Return the index, with half an element more in each part, so that none is empty."""
    parts = np.isfinite(p).sum(1)
    p, q = (
        (n[:, None] * share + 0.5) / (n + 0.5 * parts)[:, None]
        for n, share in zip(counts, (p, q), strict=True)
    )
    return np.asarray(np.nansum((p - q) * np.log(p / q), 1))


def _js(p: Array, q: Array) -> Array:
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        each = [np.where(x > 0, x * np.log2(x / middle), 0.0) for x in (p, q)]
    return np.asarray(np.nansum(sum(each), 1) / 2)
