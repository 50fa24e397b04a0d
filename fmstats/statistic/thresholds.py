"""`Thresholds` tell what counts as zero and as saturated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from fmstats.errors import FmstatsError
from fmstats.statistic.float_order import place_of, round_toward


@dataclass(frozen=True)
class Thresholds:
    """Thresholds tell what counts as zero or saturated: |x| <= zero_tol, x <= low, x >= high.

    Comparisons are of exact values: x as it is stored against these float64 numbers.

    Attributes:
        zero_tol: finite, not negative; 0 counts exact zeros, -0.0 included, subnormals not.
        low: the lower saturation bound; None where there is none.
        high: the upper one.
    """

    zero_tol: float = 0.0
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        tol = self.zero_tol
        if not (isinstance(tol, (int, float)) and math.isfinite(tol) and tol >= 0):
            raise FmstatsError(f"zero_tol must be finite and not negative, got {tol!r}")
        for name, bound in (("low", self.low), ("high", self.high)):
            if bound is not None and not math.isfinite(bound):
                raise FmstatsError(f"saturation bound {name}={bound}: give a finite number or None")

    @property
    def bounded(self) -> bool:
        """Tell whether there is a saturation bound at all."""
        return self.low is not None or self.high is not None

    @property
    def mode(self) -> str:
        """Name the comparisons there are, for kernels that are compiled with no others.

        "plain": x = 0 alone; "upper": x >= high, too; "all": every one, with a tolerance.
        """
        if place_of(self.zero_tol) > 0 or self.low is not None:
            return "all"
        return "plain" if self.high is None else "upper"

    def compared_as(self, dtype: torch.dtype) -> tuple[float, float, float]:
        """Return (zero_tol, low, high) for kernels that compare in `dtype`, of 16 bits or more.

        Rounded so that comparing in `dtype` gives what comparing exact values gives: tolerances
        and low bounds down, high bounds up. NaN, which compares false, stands for no bound.
        """
        low = math.nan if self.low is None else self.low
        high = math.nan if self.high is None else self.high
        return (
            round_toward(self.zero_tol, dtype, up=False),
            round_toward(low, dtype, up=False),
            round_toward(high, dtype, up=True),
        )
