"""Launches that fold partials, on a machine without a GPU: see cuda_host."""

from __future__ import annotations

import ctypes
from typing import Any, ClassVar

import cuda_host
from ptx import Memory

from fmstats.statistic.clock import WORDS
from fmstats.statistic.fields import EXTREMES, FIELDS, PART_FIELDS, PIVOTED, SUMS

MOST_LAYERS = 34
THREADS = 256


class FoldLayer(ctypes.Structure):
    """csrc/cuda/fold_args.h."""

    _fields_: ClassVar[list[Any]] = [
        ("fields", ctypes.c_uint64 * len(PART_FIELDS)),
        ("memory", ctypes.c_uint64),
        ("positions", ctypes.c_int64),
        ("channels", ctypes.c_int),
        ("planes", ctypes.c_int),
        ("first_block", ctypes.c_uint),
        ("lanes", ctypes.c_short),
        ("wide", ctypes.c_bool),
    ]

    def width(self, field: str) -> int:
        """Bytes of a partial of a field."""
        if field in (*PIVOTED, *SUMS):
            return 8
        return 8 if self.wide and field not in EXTREMES else 4


class FoldArgs(ctypes.Structure):
    """csrc/cuda/fold_args.h."""

    _fields_: ClassVar[list[Any]] = [
        ("clock", ctypes.c_uint64),
        ("count", ctypes.c_int),
        ("layers", FoldLayer * MOST_LAYERS),
    ]

    @property
    def used(self) -> list[FoldLayer]:
        return list(self.layers[: self.count])


def memory_of(args: FoldArgs, grid: tuple[int, int]) -> Memory:
    """All that a launch may touch: the partials of its layers and their states, and the clock."""
    memory, states = Memory(), set()
    memory.map_address(args.clock, 8 * len(WORDS), "clock")
    for layer in args.used:
        elements = layer.planes * layer.channels
        for field, address in zip(PART_FIELDS, layer.fields, strict=True):
            if address:
                memory.map_address(address, elements * layer.width(field), "x", read_only=True)
        if layer.memory not in states:
            states.add(layer.memory)
            memory.map_address(layer.memory, 8 * (len(FIELDS) * layer.channels + 1), "state")
    return memory


cuda_host.ARGUMENTS[ctypes.sizeof(FoldArgs)] = (FoldArgs, memory_of)
