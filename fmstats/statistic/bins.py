"""`Bins` tell which elements of a histogram are counted together: a rule that never changes.

The bin of an element is made of the first bits of its magnitude: the exponent and `resolution` bits
of the mantissa. So each octave, from a power of two to the next, has 2**resolution bins of equal
width; the rule is the same for every dtype, no logarithm is taken, nothing is ever resized, and
histograms of any split of the data add up exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmstats.errors import FmstatsError

SCOPES = ("layer", "channel")
MOST_RESOLUTION = 6
_MANTISSA_BITS, _BIAS = 52, 1023  # of float64
_MAGNITUDE = 2**63 - 1


@dataclass(frozen=True)
class Bins:
    """Bins divide the finite numbers that are not 0, by sign and magnitude.

    A histogram is int64 (2, `of_sign`), in one dim: bins of positive numbers, then of negative
    ones. Of each sign the first holds magnitudes below `SMALLEST`, the last those of `LARGEST` and
    beyond; a bin between them holds magnitudes from its lower edge on, below its upper one. Zeros,
    NaN and infinities are in none: other counts have them.

    Attributes:
        scope: "layer": one histogram of all channels together; "channel": one of each.
        resolution: bits of the mantissa, 0 to 6: each octave has 2**resolution bins.
    """

    scope: str = "layer"
    resolution: int = 4

    LOWEST_EXPONENT: ClassVar[int] = -24
    SMALLEST: ClassVar[float] = 2.0**LOWEST_EXPONENT  # the smallest number of float16
    LARGEST: ClassVar[float] = 65504.0  # the largest number of float16
    OCTAVES: ClassVar[int] = 16 - LOWEST_EXPONENT

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            wanted = " or ".join(map(repr, SCOPES))
            raise FmstatsError(f"histogram={self.scope!r}: choose {wanted}")
        known = type(self.resolution) is int
        if not known or not 0 <= self.resolution <= MOST_RESOLUTION:
            raise FmstatsError(
                f"resolution={self.resolution!r}: give 0 to {MOST_RESOLUTION} bits, of which each "
                "octave has 2**resolution bins"
            )

    @property
    def regular(self) -> int:
        """Return the number of bins of a sign between the first and the last one."""
        return self.OCTAVES << self.resolution

    @property
    def of_sign(self) -> int:
        """Return the number of bins of a sign."""
        return self.regular + 2

    @property
    def words(self) -> int:
        """Return the number of words of one histogram, of 8 bytes each."""
        return 2 * self.of_sign

    @property
    def bytes(self) -> int:
        """Return the bytes of one histogram."""
        return 8 * self.words

    def rows(self, channels: int, groups: int = 1) -> int:
        """Return the number of histograms of a state, of so many channels in groups."""
        return groups if self.scope == "layer" else channels

    def edges(self) -> NDArray[np.float64]:
        """Return the edges of the bins between the first and the last one of a sign, ascending.

        Returns:
            float64 (regular + 1,), from `SMALLEST` to `LARGEST`.
        """
        parts = 1 << self.resolution
        place = np.arange(self.regular + 1)
        edges = np.ldexp(1.0 + (place % parts) / parts, place // parts + self.LOWEST_EXPONENT)
        edges[-1] = self.LARGEST
        return edges

    def of(self, x: Tensor) -> Tensor:
        """Return the bins of numbers: int64 from 0 to words - 1, of float64 that are not 0.

        Args:
            x: float64; what is told of 0, NaN and infinities has no meaning.
        """
        bits = x.view(torch.int64)
        magnitude = bits & _MAGNITUDE
        first = (_BIAS + self.LOWEST_EXPONENT) << self.resolution
        place = (magnitude >> (_MANTISSA_BITS - self.resolution)) - first
        place = place.clamp(-1, self.regular) + 1
        largest = int(np.float64(self.LARGEST).view(np.int64))
        place = torch.where(magnitude >= largest, self.regular + 1, place)
        return torch.where(bits < 0, place + self.of_sign, place)

    def count(self, x: Tensor, counted: Tensor) -> Tensor:
        """Count the numbers in each bin.

        Args:
            x: float64 (rows, n).
            counted: bool of that shape: the numbers that are finite and not to be left out.

        Returns:
            int64 (rows, words).
        """
        counts = torch.zeros(x.shape[0], self.words, dtype=torch.int64, device=x.device)
        counted = counted & ((x.view(torch.int64) & _MAGNITUDE) != 0)
        return counts.scatter_add_(1, torch.where(counted, self.of(x), 0), counted.to(torch.int64))

    def __str__(self) -> str:
        return f"a histogram of each {self.scope}, {1 << self.resolution} bins an octave"
