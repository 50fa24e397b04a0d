"""Say in which codes of 8 bits activations are to be stored, and by which scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fmstats.calibration.grids import Floats, Integers
from fmstats.errors import FmstatsError, list_closest
from fmstats.statistic.distribution import Array

_NORMAL = np.finfo(np.float32)  # scales are float32, and never 0 or infinite


@dataclass(frozen=True)
class Scheme:
    """Makes a scale and a zero point of a range: x = (code - zero_point) * scale.

    Attributes:
        name: what a user asks for.
        dtype: of the codes, as torch calls it.
        grid: the codes.
        affine: the zero point is free, so that a range needs not be as wide below 0 as above.
        about: what it is, for people.
    """

    name: str
    dtype: str
    grid: Integers | Floats
    affine: bool
    about: str

    @property
    def limits(self) -> tuple[float, float]:
        """Return the least and the largest code."""
        if isinstance(self.grid, Integers):
            return self.grid.least, self.grid.most
        return -self.grid.largest, self.grid.largest

    def parameters(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Return the scales and zero points of ranges.

        Args:
            low: float64; what is above 0 counts as 0, for 0 must be a code.
            high: the same above.

        Returns:
            float32 and int64 arrays of their shape.
        """
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
        least, most = self.limits
        width = (high - low) / (most - least) if self.affine else np.maximum(high, -low) / most
        scale = np.clip(width, _NORMAL.tiny, _NORMAL.max).astype(np.float32)
        if not self.affine:
            return scale, np.zeros(scale.shape, np.int64)
        zero_point = np.clip(np.rint(least - low / scale.astype(np.float64)), least, most)
        return scale, zero_point.astype(np.int64)

    def bounds(self, scale: Array, zero_point: Array) -> tuple[Array, Array]:
        """Return the smallest and the largest number that codes stand for (float64)."""
        least, most = self.limits
        step = scale.astype(np.float64)
        return (least - zero_point) * step, (most - zero_point) * step

    def reach(self, scale: Array, zero_point: Array) -> tuple[Array, Array]:
        """Return how far numbers may lie from 0 that are rounded, and not clipped (float64)."""
        low, high = self.bounds(scale, zero_point)
        beyond = self.grid.last_step / 2 * scale.astype(np.float64)
        return low - beyond, high + beyond


_ALL = (
    Scheme("int8", "int8", Integers(-127, 127), False, "signed integers, 0 in the middle"),
    Scheme("int8-affine", "int8", Integers(-128, 127), True, "signed integers, 0 anywhere"),
    Scheme("uint8", "uint8", Integers(0, 255), True, "unsigned integers, 0 anywhere"),
    Scheme("e4m3", "float8_e4m3fn", Floats("float8_e4m3fn"), False, "floats of 3 bits to 448"),
    Scheme("e5m2", "float8_e5m2", Floats("float8_e5m2"), False, "floats of 2 bits to 57344"),
)
SCHEMES = {scheme.name: scheme for scheme in _ALL}


def read_scheme(name: str) -> Scheme:
    """Return the scheme of a name.

    Raises:
        FmstatsError: there is none, or it is one of 4 bits.
    """
    if "int4" in str(name):
        raise FmstatsError(
            f"scheme={name!r}: numbers of 4 bits share a scale in groups of 32 to 128 neighbours "
            "of a row, and a profile knows layers and channels, no such groups; int4 is for "
            f"weights, which can be read where they are. Choose {', '.join(SCHEMES)}"
        )
    if not isinstance(name, str) or name not in SCHEMES:
        closest = list_closest(str(name), SCHEMES)
        raise FmstatsError(
            f"scheme={name!r}: choose {', '.join(SCHEMES)} (closest: {closest}); "
            "per='channel' gives each channel a scale of its own"
        )
    return SCHEMES[name]
