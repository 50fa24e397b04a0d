"""Histograms by octaves of magnitudes, for pictures: what is drawn of them, and on which axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fmstats.profiles.measured import pool_histograms
from fmstats.statistic.bins import Bins
from fmstats.statistic.channel_stats import ChannelStats, pool_channels
from fmstats.statistic.distribution import Array

_MOST = 16  # octaves of a sign that are drawn


def count_octaves(layers: Mapping[str, ChannelStats]) -> dict[str, Array]:
    """Return how many elements of each layer are in each octave, see `Distribution.octaves`.

    Layers without histograms are left out.
    """
    wholes = pool_channels(list(layers.values()))
    return {
        name: pool_histograms(stats, whole).distribution.octaves()[0]
        for (name, stats), whole in zip(layers.items(), wholes, strict=True)
        if stats.measures.bins is not None
    }


@dataclass(frozen=True)
class OctaveAxis:
    """An axis has negative octaves, from the largest magnitudes on, zeros, and positive octaves.

    Attributes:
        bottom, top: the first and the last octave of a sign, by their places beside zero. What is
            smaller is drawn with the first one.
    """

    bottom: int
    top: int

    @classmethod
    def of(cls, counts: Iterable[Array]) -> OctaveAxis:
        """Return the axis of all octaves that are not empty, or the largest `_MOST` of them."""
        used = np.flatnonzero(sum(above + below for below, _, above in map(_divide, counts)))
        top = int(used.max(initial=0))
        return cls(max(int(used.min(initial=top)), top + 1 - _MOST), top)

    @property
    def octaves(self) -> int:
        """Return how many there are of a sign."""
        return self.top - self.bottom + 1

    @property
    def ends(self) -> tuple[str, str]:
        """Return as texts where the first and the last octave of a sign end."""
        return _end_of(self.bottom), _end_of(self.top)

    def arrange(self, counts: Array) -> tuple[Array, int, Array]:
        """Return the negative octaves of a layer, its zeros, and its positive octaves."""
        below, zeros, above = _divide(counts)
        return self._choose(below)[::-1], zeros, self._choose(above)

    def _choose(self, counts: Array) -> Array:
        chosen = counts[self.bottom : self.top + 1].copy()
        chosen[0] += counts[: self.bottom].sum()
        return chosen


def _divide(counts: Array) -> tuple[Array, int, Array]:
    """Return the octaves of negative numbers, from zero on, the zeros, and the other octaves."""
    middle = len(counts) // 2
    return counts[:middle][::-1], int(counts[middle]), counts[middle + 1 :]


def _end_of(place: int) -> str:
    if place > Bins.OCTAVES:
        return "inf"
    return f"{min(2.0 ** (Bins.LOWEST_EXPONENT + place), Bins.LARGEST):.5g}"
