"""A `Distribution` answers how numbers are distributed, from the counts of `Bins`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmstats.statistic.bins import Bins

Array = NDArray[Any]


def edges_between(bins: Bins, low: Array, high: Array) -> Array:
    """Return the edges of all places in the order of the numbers, none beyond a range.

    Args:
        bins: the rule.
        low: float64 (rows,), where the range begins; NaN where there is none.
        high: where it ends.

    Returns:
        float64 (rows, places + 1), ascending in each row.
    """
    one_sign = np.concatenate([[0.0], bins.edges(), [np.inf]])
    both = np.concatenate([-one_sign[::-1], one_sign])
    known = np.isfinite(low)[:, None]
    inside = np.clip(both, low[:, None], high[:, None])
    return np.asarray(np.where(known, inside, np.clip(both, -1e308, 1e308)))


@dataclass(frozen=True, eq=False)
class Distribution:
    """A distribution holds histograms of finite numbers, in the order of the numbers.

    Where an answer falls within a bin, its numbers are taken to be spread evenly over it, or over
    the part of it that lies between the smallest and the largest number seen.

    Attributes:
        bins: the rule.
        counts: int64 (rows, places): from the largest negative magnitudes through zero, which has
            a place without width, to the largest positive ones.
        edges: float64 (rows, places + 1), as of `edges_between`.
    """

    bins: Bins
    counts: Array
    edges: Array

    @classmethod
    def of(cls, bins: Bins, counts: Array, zeros: Array, low: Array, high: Array) -> Distribution:
        """Return the distribution of what a state holds.

        Args:
            bins: the rule.
            counts: int64 (rows, bins.words), as states hold them.
            zeros: int64 (rows,), how many numbers were 0.
            low: float64 (rows,), the smallest number; NaN where there is none.
            high: the largest.
        """
        positive, negative = counts[:, : bins.of_sign], counts[:, bins.of_sign :]
        places = np.concatenate([negative[:, ::-1], zeros[:, None], positive], 1)
        return cls(bins, places, edges_between(bins, low, high))

    @cached_property
    def total(self) -> Array:
        """Return how many numbers each row has: int64 (rows,)."""
        return np.asarray(self.counts.sum(1))

    @property
    def zeros(self) -> Array:
        """Return how many numbers of each row are 0: int64 (rows,)."""
        return self.counts[:, self.bins.of_sign]

    def row(self, number: int) -> Distribution:
        """Return one row alone."""
        part = slice(number, number + 1)
        return Distribution(self.bins, self.counts[part], self.edges[part])

    def mirrored(self) -> Distribution:
        """Return the distribution of the numbers with the other sign."""
        return Distribution(self.bins, self.counts[:, ::-1], -self.edges[:, ::-1])

    def magnitudes(self) -> Distribution:
        """Return the distribution of the magnitudes, of which the smallest is not known."""
        side = self.bins.of_sign
        of_both = self.counts[:, side - 1 :: -1] + self.counts[:, side + 1 :]
        largest = np.abs(self.edges[:, [0, -1]]).max(1)
        both = np.concatenate([of_both, np.zeros_like(of_both)], 1)
        return Distribution.of(self.bins, both, self.zeros, 0 * largest, largest)

    def quantile(self, q: float) -> Array:
        """Return the number below which a share `q` of all lies, of each row: float64.

        It is between the neighbours that `numpy.quantile` interpolates, or in a bin of one of them:
        so its relative error is at most 2**-resolution, where the magnitudes are within the bins.
        """
        found = np.full(len(self.counts), np.nan)
        for row, total in enumerate(self.total.tolist()):
            if total:
                # As numpy has it: of n numbers the first is at 0, the last at 1.
                rank = q * (total - 1)
                ends = np.cumsum(self.counts[row])
                low = self._at_rank(row, ends, math.floor(rank))
                high = self._at_rank(row, ends, math.ceil(rank))
                found[row] = low + (high - low) * (rank - math.floor(rank))
        return found

    def _at_rank(self, row: int, ends: Array, rank: int) -> float:
        """Return the number at a rank of a row, whose counts are cumulated in `ends`."""
        place = int(np.searchsorted(ends, rank, "right"))
        count = int(self.counts[row, place])
        part = (rank - (int(ends[place]) - count) + 0.5) / count
        low, high = self.edges[row, place], self.edges[row, place + 1]
        return float(low + (high - low) * part)

    def above(self, x: float) -> Array:
        """Return how many numbers are `x` or more, of each row: float64, exact at an edge."""
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            part = np.clip((high - x) / (high - low), 0.0, 1.0)
        part = np.where(high > low, part, low >= x)
        return np.asarray((self.counts * part).sum(1))

    def beyond(self, magnitude: float) -> Array:
        """Return how many numbers are as far from 0 as `magnitude`, or farther, of each row."""
        return np.asarray(self.above(magnitude) + self.mirrored().above(magnitude))

    def octaves(self) -> Array:
        """Return how many numbers are in each octave: int64 (rows, 2 * (bins.OCTAVES + 2) + 1).

        They are in the order of the numbers: from the negative ones of largest magnitude through
        zero to the positive ones. Of each sign the places next to zero are of magnitudes below all
        octaves, the outermost ones of magnitudes beyond them.
        """
        of_sign, zero = self.bins.of_sign, self.bins.of_sign
        starts = np.arange(0, self.bins.regular, 1 << self.bins.resolution)
        starts = np.concatenate([[0], 1 + starts, [of_sign - 1]])
        positive, negative = self.counts[:, zero + 1 :], self.counts[:, :zero][:, ::-1]
        above, below = (np.add.reduceat(c, starts, 1) for c in (positive, negative))
        return np.concatenate([below[:, ::-1], self.counts[:, zero : zero + 1], above], 1)

    def list_bins(self) -> list[dict[str, list[float]]]:
        """Return the bins that are not empty, of each row: where they begin and end, the counts."""
        found = []
        for counts, edges in zip(self.counts, self.edges, strict=True):
            some = np.flatnonzero(counts)
            lists = {"from": edges[some], "to": edges[some + 1], "count": counts[some]}
            found.append({name: values.tolist() for name, values in lists.items()})
        return found

    def rebinned(self, edges: Array) -> Array:
        """Return how many numbers lie between neighbouring edges, of each row: float64.

        Args:
            edges: ascending, two or more; the last one is inside, as in `numpy.histogram`.
        """
        at = np.append(edges, np.nextafter(edges[-1], np.inf))
        from_edge = np.stack(
            [
                np.interp(-at, -edges_of_row[::-1], np.concatenate([[0], counts[::-1].cumsum()]))
                for edges_of_row, counts in zip(self.edges, self.counts, strict=True)
            ]
        )
        inside = from_edge[:, :-2] - from_edge[:, 1:-1]
        inside[:, -1] += from_edge[:, -2] - from_edge[:, -1]
        return np.asarray(inside)
