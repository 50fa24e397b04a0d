"""`Asked` tells what a kernel is compiled to measure beside what it always does."""

from __future__ import annotations

from typing import NamedTuple

from fmstats.statistic.measures import Measures

SCOPES = (None, "layer", "channel")  # by their numbers in csrc/cuda/asked.h


class Asked(NamedTuple):
    """It is what csrc/cuda/asked.h calls so.

    Attributes:
        sums: whether magnitudes and powers are added up.
        scope: the place of one in `SCOPES`: whose elements a histogram counts.
        resolution: of its bins; 0 where there are none.
    """

    sums: bool = False
    scope: int = 0
    resolution: int = 0

    @classmethod
    def of(cls, measures: Measures) -> Asked:
        """Return what kernels of states with these measures are compiled for."""
        if measures.bins is None:
            return cls(bool(measures.sums))
        scope = SCOPES.index(measures.bins.scope)
        return cls(bool(measures.sums), scope, measures.bins.resolution)

    @property
    def options(self) -> list[str]:
        """Return the compiler's options; none where nothing is asked for."""
        if self == NOTHING:
            return []
        names = ("SUMS", "SCOPE", "RESOLUTION")
        return [f"-DFMSTATS_ASKED_{name}={int(n)}" for name, n in zip(names, self, strict=True)]


NOTHING = Asked()
