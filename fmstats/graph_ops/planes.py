"""This module tells which dims of a tensor its partials keep, and which they reduce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from fmstats.statistic.packing import Packing

FEWEST = 16  # positions that a plane is kept for: partials of smaller ones cost more than they save


@dataclass(frozen=True)
class Planes:
    """Planes are the parts of a tensor that partials keep apart: its batch, where that is worth it.

    Attributes:
        kept: the dims that stay, in order; their sizes are the shape of the partials, but for
            a tensor whose dims are all reduced: it has one channel.
        reduced: all others.
        shape: of the partials: (planes, channels).
        positions: how many elements each partial is of.
        channels: how many there are.
    """

    kept: tuple[int, ...]
    reduced: tuple[int, ...]
    shape: tuple[int, int]
    positions: int
    channels: int

    @property
    def packing(self) -> Packing:
        """Return how their counts are packed."""
        return Packing.of(self.positions)


def planes_of(shape: Sequence[int], channel_dim: int) -> Planes:
    """Return the planes of a tensor.

    Args:
        shape: of the tensor.
        channel_dim: of it; -1 where the whole tensor is one channel.
    """
    dims = range(len(shape))
    has_batch = len(shape) > 1 and channel_dim != 0
    rest = prod(size for dim, size in enumerate(shape) if dim not in (0, channel_dim))
    kept = {channel_dim} - {-1}
    if has_batch and rest >= FEWEST:
        kept.add(0)
    reduced = tuple(dim for dim in dims if dim not in kept)
    channels = 1 if channel_dim == -1 else shape[channel_dim]
    planes = shape[0] if 0 in kept and channel_dim != 0 else 1
    positions = prod(shape[dim] for dim in reduced)
    return Planes(tuple(sorted(kept)), reduced, (planes, channels), positions, channels)
