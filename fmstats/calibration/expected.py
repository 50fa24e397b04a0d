"""Expect the squared error of rounding and clipping, and find the range of the least."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fmstats.calibration.rows import Row
from fmstats.calibration.schemes import Scheme
from fmstats.statistic.distribution import Array

# Clip ranges that are tried first: each is a share of the range seen, down to 2**-16 of it.
_COARSE = 2.0 ** (-np.arange(33) / 2)
_FINE = 12  # steps to either side of the best, two times, each time within the last step


def expect_error(row: Row, scheme: Scheme, low: Array, high: Array) -> Array:
    """Return the mean squared error that each of these ranges is expected to make (float64).

    Numbers are taken to be spread evenly over their bin. Of these, rounding to the grid and
    clipping at its ends have an exact error, however the grid lies in the bin.

    Args:
        row: of at least one number.
        scheme: how they are stored.
        low: of each range, (ranges,).
        high: the other end.
    """
    begins, ends, counts = row.filled
    scale, zero_point = scheme.parameters(low, high)
    step, zero = scale.astype(np.float64)[:, None], zero_point[:, None]
    with np.errstate(over="ignore", invalid="ignore"):  # of cubes beyond float64
        from_begin, offset = _integrate(scheme, begins / step, zero)
        to_end, _ = _integrate(scheme, ends / step, zero)
        width = (ends - begins) / step
        spread = width > 0
        mean = np.where(spread, (to_end - from_begin) / np.where(spread, width, 1), offset**2)
        error = (mean @ counts) / counts.sum() * step[:, 0] ** 2
    return np.where(np.isnan(error), np.inf, error)


def _integrate(scheme: Scheme, x: Array, zero_point: Array) -> tuple[Array, Array]:
    """Return the integral of the squared error from 0 to `x`, and the distance from the grid."""
    nearest = scheme.grid.nearest(x, zero_point)
    offset = x - nearest
    return scheme.grid.integral(nearest) + offset**3 / 3, offset


@dataclass(frozen=True)
class _Search:
    """Keeps the best range, and looks for a better one."""

    row: Row
    scheme: Scheme
    low: float
    high: float

    def among(self, low: Array, high: Array) -> _Search:
        """Return the best of these ranges and of the one at hand."""
        low, high = np.append(low, self.low), np.append(high, self.high)
        best = int(np.argmin(expect_error(self.row, self.scheme, low, high)))
        return _Search(self.row, self.scheme, float(low[best]), float(high[best]))

    def both(self, factors: Array) -> _Search:
        return self.among(self.low * factors, self.high * factors)

    def each(self, factors: Array) -> _Search:
        """Move the upper end, then the lower one."""
        best = self.among(np.full(factors.shape, self.low), self.high * factors)
        return best.among(best.low * factors, np.full(factors.shape, best.high))


def find_least_error(row: Row, scheme: Scheme) -> tuple[float, float]:
    """Return the range of the least expected error that was found.

    Both ends shrink together first. Where the zero point is free and there are numbers on both
    sides of 0, each end moves on alone.

    Args:
        row: of two different numbers or more.
        scheme: how they are stored.
    """
    best = _Search(row, scheme, min(row.low, 0.0), max(row.high, 0.0)).both(_COARSE)
    alone = scheme.affine and row.low < 0 < row.high
    if alone:
        best = best.each(_COARSE).each(_COARSE)
    step = 0.5
    for _ in range(2):
        factors = 2.0 ** (step * np.arange(-_FINE, _FINE + 1) / _FINE)
        best = best.each(factors).each(factors) if alone else best.both(factors)
        step /= _FINE
    # Beyond the range seen there is nothing to gain that rounding does not blur.
    return max(best.low, min(row.low, 0.0)), min(best.high, max(row.high, 0.0))
