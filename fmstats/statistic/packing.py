"""Several counts of a plane are one number where they fit: partials are written and read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.statistic.fields import NON_FINITE, comparisons_of

_EXACT_BITS = 24  # integers of so many bits are exact as float32
MOST_POSITIONS = (1 << _EXACT_BITS) - 1  # of a plane


def count_names(mode: str) -> tuple[str, ...]:
    """Return the counts that tensors measured in this mode have."""
    return NON_FINITE + comparisons_of(mode)


@dataclass(frozen=True)
class Packing:
    """A packing tells which counts of a plane are one float32 number.

    Attributes:
        bits: of a count; those of the first one are the lowest.
        together: how many counts are one number.
    """

    bits: int
    together: int

    @classmethod
    def of(cls, positions: int) -> Packing:
        """Return how the counts of planes of so many positions are packed.

        Args:
            positions: from 1 to `MOST_POSITIONS`.

        Raises:
            FmstatsError: another number of them.
        """
        if not 1 <= positions <= MOST_POSITIONS:
            raise FmstatsError(f"a plane has 1 to {MOST_POSITIONS} positions, got {positions}")
        bits = positions.bit_length()
        return cls(bits, _EXACT_BITS // bits)

    def groups(self, mode: str) -> list[tuple[str, ...]]:
        """Return the counts of each number, of tensors measured in this mode."""
        names = count_names(mode)
        return [names[i : i + self.together] for i in range(0, len(names), self.together)]

    def pack(self, counts: Sequence[Tensor]) -> Tensor:
        """Return the numbers that the int64 counts of one group are."""
        words = counts[0].clone()
        for i, count in enumerate(counts[1:], 1):
            words += count << (self.bits * i)
        return words.to(torch.float32)

    def unpack(self, numbers: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Return the int64 counts that the numbers of one group are, by their names."""
        words, all_bits = numbers.to(torch.int64), (1 << self.bits) - 1
        return {name: (words >> (self.bits * i)) & all_bits for i, name in enumerate(names)}
