"""Choose the range of numbers that codes are to cover; what is beyond it is clipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fmstats.calibration.entropy import find_least_divergence
from fmstats.calibration.expected import find_least_error
from fmstats.calibration.grids import Floats
from fmstats.calibration.rows import Row
from fmstats.calibration.schemes import Scheme
from fmstats.errors import FmstatsError, list_closest

Range = tuple[float, float]


@dataclass(frozen=True)
class Method:
    """Finds the range of a row of two different numbers or more.

    Attributes:
        find: does so, given the share that percentiles keep.
        distribution: it needs a histogram.
        floats: it is for schemes of floats as well as of integers.
        about: what it is, for people.
    """

    find: Callable[[Row, Scheme, float], Range]
    distribution: bool
    floats: bool
    about: str


def _find_absmax(row: Row, scheme: Scheme, q: float) -> Range:
    return row.low, row.high


def _find_percentile(row: Row, scheme: Scheme, q: float) -> Range:
    """Return the range that clips a share 1 - q: half at either end, or the largest magnitudes."""
    if scheme.affine:
        ends = (row.distribution.quantile(share)[0] for share in ((1 - q) / 2, (1 + q) / 2))
        low, high = map(float, ends)
        return low, high
    largest = float(row.distribution.magnitudes().quantile(q)[0])
    return -largest, largest


METHODS = {
    "absmax": Method(_find_absmax, False, True, "all that was seen"),
    "percentile": Method(_find_percentile, True, True, "a share q of all, the extremes clipped"),
    "mse": Method(
        lambda row, scheme, q: find_least_error(row, scheme), True, True, "the least squared error"
    ),
    "entropy": Method(
        lambda row, scheme, q: find_least_divergence(row, scheme),
        True,
        False,
        "the least divergence, as TensorRT finds it",
    ),
}


def read_method(name: str, scheme: Scheme) -> Method:
    """Return the method of a name.

    Raises:
        FmstatsError: there is none, or it is not for this scheme.
    """
    if not isinstance(name, str) or name not in METHODS:
        closest = list_closest(str(name), METHODS)
        raise FmstatsError(f"method={name!r}: choose {', '.join(METHODS)} (closest: {closest})")
    if isinstance(scheme.grid, Floats) and not METHODS[name].floats:
        raise FmstatsError(
            f"method={name!r} compares codes of equal steps, which {scheme.name} has not: choose "
            f"{', '.join(other for other, method in METHODS.items() if method.floats)}"
        )
    return METHODS[name]
