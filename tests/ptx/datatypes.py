"""PTX types, the numpy types that hold them, and the words that all files share.

A register is an array of unsigned numbers of its width, one for each lane, whatever the type of the
instructions that use it; a predicate is an array of bool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .chunk import Chunk

Array: TypeAlias = npt.NDArray[Any]
# The lanes that execute an instruction, ascending; None: every lane of the chunk.
Lanes: TypeAlias = "Array | None"
Execute: TypeAlias = "Callable[[Chunk, Lanes], None]"
Reader: TypeAlias = "Callable[[Chunk, Lanes], Array]"
Writer: TypeAlias = "Callable[[Chunk, Lanes, Array], None]"

WARP = 32  # lanes
# What a lane is doing.
RUNNING, AT_BARRIER, AT_WARP_SYNC, DONE = range(4)

SIGNED = frozenset({"s8", "s16", "s32", "s64"})
UNSIGNED = frozenset({"u8", "u16", "u32", "u64"})
BITS = frozenset({"b8", "b16", "b32", "b64"})
INTEGERS = SIGNED | UNSIGNED
FLOATS = frozenset({"f16", "bf16", "f32", "f64"})
PAIRS = frozenset({"f16x2", "bf16x2"})
SCALARS = INTEGERS | BITS | FLOATS
# Bits of a type: the digits of its name, but for pairs, brain floats and predicates.
WIDTH = {name: int(name[1:]) for name in SCALARS - {"bf16"}} | {
    "bf16": 16,
    "f16x2": 32,
    "bf16x2": 32,
    "f32x2": 64,
    "pred": 1,
}

_UNSIGNED_OF = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
_SIGNED_OF = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}


def unsigned(width: int) -> type[Any]:
    """Give the numpy type of raw bits."""
    return _UNSIGNED_OF[width]


def signed(width: int) -> type[Any]:
    """Give the numpy type of two's complement numbers."""
    return _SIGNED_OF[width]


def integer_of(name: str) -> type[Any]:
    """Give the numpy type that holds the values of an integer type; of any other, its bits."""
    return signed(WIDTH[name]) if name in SIGNED else unsigned(WIDTH[name])


def limits(name: str) -> tuple[int, int]:
    """Give the smallest and the largest value of an integer type."""
    width = WIDTH[name]
    if name in SIGNED:
        return -(1 << (width - 1)), (1 << (width - 1)) - 1
    return 0, (1 << width) - 1
