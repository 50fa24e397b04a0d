"""List the numbers that a format of few bits holds, in units of its scale.

Each grid can tell the rounding error of numbers that are spread evenly between edges, exactly: by
the integral of (x - nearest)**2, which has a closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from fmstats.statistic.distribution import Array


@dataclass(frozen=True)
class Integers:
    """Holds the integers from `least` to `most`, of which the zero point stands for 0."""

    least: int
    most: int

    @property
    def last_step(self) -> float:
        """Return the distance of the largest number from the one before."""
        return 1.0

    def nearest(self, x: Array, zero_point: Array) -> Array:
        """Return the number of the grid that `x` is rounded to, the last one beyond the ends.

        Args:
            x: float64, in units of the scale.
            zero_point: the code of 0, as `x` or to be broadcast to it.
        """
        return np.clip(np.rint(x), self.least - zero_point, self.most - zero_point)

    def integral(self, nearest: Array) -> Array:
        """Return the integral of (x - nearest)**2 from 0 to each of these numbers of the grid."""
        return nearest / 12


@dataclass(frozen=True)
class Floats:
    """Holds the finite numbers of a floating-point format, which torch calls `dtype`."""

    dtype: str

    @cached_property
    def _magnitudes(self) -> Array:
        codes = torch.arange(128, dtype=torch.uint8).view(getattr(torch, self.dtype))
        values = codes.to(torch.float64).numpy()
        return np.asarray(values[np.isfinite(values)])

    @cached_property
    def _middles(self) -> Array:
        return np.asarray((self._magnitudes[1:] + self._magnitudes[:-1]) / 2)

    @cached_property
    def _integrals(self) -> Array:
        return np.concatenate([[0.0], np.cumsum(np.diff(self._magnitudes) ** 3 / 12)])

    @property
    def largest(self) -> float:
        """Return the largest number."""
        return float(self._magnitudes[-1])

    @property
    def last_step(self) -> float:
        """Return the distance of the largest number from the one before."""
        return float(self._magnitudes[-1] - self._magnitudes[-2])

    def nearest(self, x: Array, zero_point: Array) -> Array:
        """Do as `Integers.nearest`; all zero points are 0."""
        return np.copysign(self._magnitudes[np.searchsorted(self._middles, np.abs(x))], x)

    def integral(self, nearest: Array) -> Array:
        """Do as `Integers.integral`."""
        places = np.searchsorted(self._magnitudes, np.abs(nearest))
        return np.copysign(self._integrals[places], nearest)
