"""Launches that fold partials, on a machine without a GPU: see cuda_host."""

from __future__ import annotations

import ctypes
from typing import Any, ClassVar

import cuda_host
from ptx import Memory

from fmstats.statistic.clock import WORDS
from fmstats.statistic.fields import EXTREMES, FIELDS
from fmstats.statistic.packing import count_names
from fmstats.statistic.partials import ALL_SUMS

REALS = ALL_SUMS + EXTREMES
MOST_LAYERS = 34
THREADS = 256


class FoldLayer(ctypes.Structure):
    """csrc/cuda/fold_args.h."""

    _fields_: ClassVar[list[Any]] = [
        ("counts_in", ctypes.c_uint64 * len(count_names("all"))),
        ("reals", ctypes.c_uint64 * len(REALS)),
        ("memory", ctypes.c_uint64),
        ("positions", ctypes.c_int64),
        ("channels", ctypes.c_int),
        ("planes", ctypes.c_int),
        ("first_block", ctypes.c_uint),
        ("lanes", ctypes.c_short),
        ("bits", ctypes.c_ubyte),
        ("together", ctypes.c_ubyte),
        ("counts", ctypes.c_ubyte),
        ("mode", ctypes.c_ubyte),
    ]


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
        partials = [(address, 4) for address in layer.counts_in if address]
        for address, name in zip(layer.reals, REALS, strict=True):
            partials.append((address, 4 if name in EXTREMES else 8))
        for address, width in partials:
            memory.map_address(address, elements * width, "x", read_only=True)
        if layer.memory not in states:
            states.add(layer.memory)
            memory.map_address(layer.memory, 8 * (len(FIELDS) * layer.channels + 1), "state")
    return memory


cuda_host.ARGUMENTS[ctypes.sizeof(FoldArgs)] = (FoldArgs, memory_of)
