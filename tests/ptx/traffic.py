"""Counting what a launch asks of global memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .datatypes import Array

SECTOR_BITS = 5  # 32 bytes


@dataclass
class Traffic:
    """What warps asked of one buffer."""

    requests: int = 0  # instructions of warps
    bytes: int = 0  # asked for, lane by lane
    sectors: int = 0  # of 32 bytes, those of one request counted once

    def add(self, warps: Array, addresses: Array, size: int) -> None:
        """Count one access by lanes, in the order of their warps."""
        self.bytes += len(addresses) * size
        self.requests += 1 + int(np.count_nonzero(np.diff(warps)))
        # An aligned access of at most 32 bytes lies in one sector.
        keys = (warps << 48) + (addresses >> SECTOR_BITS)
        steps = np.diff(keys)
        if (steps < 0).any():
            steps = np.diff(np.sort(keys))
        self.sectors += 1 + int(np.count_nonzero(steps))


class ByteCounter:
    """How often each byte of a buffer was loaded."""

    def __init__(self, nbytes: int) -> None:
        self._steps = np.zeros(nbytes + 1, np.int32)  # of the counts, from byte to byte

    def add(self, offsets: Array, size: int) -> None:
        """Count loads of `size` bytes each."""
        if not (np.diff(offsets) > 0).all():
            offsets, times = np.unique(offsets, return_counts=True)
        else:
            times = np.array([1])
        self._steps[offsets] += times
        self._steps[offsets + size] -= times

    def counts(self) -> Array:
        """Give the number of loads of each byte."""
        return np.cumsum(self._steps[:-1], dtype=np.int32)
