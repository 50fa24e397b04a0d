"""Conversions between types."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .arithmetic import join_halves, saturate
from .datatypes import (
    FLOATS,
    INTEGERS,
    PAIRS,
    WIDTH,
    Array,
    Execute,
    Lanes,
    integer_of,
    limits,
    unsigned,
)
from .floats import encode, flush
from .operands import Binder
from .registry import rule

if TYPE_CHECKING:
    from .chunk import Chunk

Convert = Callable[[Array], Array]

_TYPES = INTEGERS | FLOATS
_ROUNDINGS = ("rn", "rz", "rm", "rp")
_TO_INTEGER = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_MODIFIERS = " ".join([*_ROUNDINGS, *_TO_INTEGER, "ftz", "sat"])


@rule("cvt", _TYPES, f"{_MODIFIERS} {' '.join(_TYPES)}")
def convert(binder: Binder) -> Execute:
    """Convert one number."""
    source, target = binder.type, binder.modifiers[-2]
    write = binder.writer(binder.operands[0], target)
    read = binder.value(binder.operands[1], source)
    if source in FLOATS:
        convert_one = _from_float(binder, source, target)
    else:
        convert_one = _from_integer(binder, source, target)
    return lambda chunk, lanes: write(chunk, lanes, convert_one(read(chunk, lanes)))


def _from_float(binder: Binder, source: str, target: str) -> Convert:
    rounding = binder.instruction.one_of(*_ROUNDINGS) or "rn"
    whole = _TO_INTEGER.get(binder.instruction.one_of(*_TO_INTEGER))
    flushes, saturates = binder.has("ftz"), binder.has("sat")

    def to_float(values: Array) -> Array:
        if flushes and source == "f32":
            values = flush(values, "f32")
        if whole is not None:
            values = whole(values)
        if saturates:
            values = saturate(values)
        if target == source:
            return values.copy().view(unsigned(WIDTH[target])) if source in ("f32", "f64") else (
                encode(values, target)
            )  # fmt: skip
        if rounding != "rn":
            values = values.astype(np.float64)
        bits = encode(values, target, rounding)
        return _flushed(bits) if flushes and target == "f32" else bits

    def to_integer(values: Array) -> Array:
        if flushes and source == "f32":
            values = flush(values, "f32")
        wide = values.astype(np.float64)
        return float_to_integer((whole or np.trunc)(wide), source, target)

    return to_float if target in FLOATS else to_integer


def _flushed(bits: Array) -> Array:
    return flush(bits.view(np.float32), "f32").view(np.uint32)


def float_to_integer(whole: Array, source: str, target: str) -> Array:
    """Clamp whole float64 numbers to an integer type.

    NaN gives zero, unless one of the types has 64 bits: then only the highest bit is set (PTX ISA
    9.0, `cvt`).
    """
    low, high = limits(target)
    number = integer_of(target)
    is_nan, is_above = np.isnan(whole), whole >= float(high)
    inside = np.where(is_nan | is_above, 0.0, np.maximum(whole, float(low)))
    wide = inside.astype(np.uint64 if target == "u64" else np.int64).astype(number)
    of_nan = 0
    if source == "f64" or WIDTH[target] == 64:
        of_nan = low or 1 << (WIDTH[target] - 1)
    result = np.where(is_above, np.array(high, number), wide)
    return np.where(is_nan, np.array(of_nan, number), result)


def _from_integer(binder: Binder, source: str, target: str) -> Convert:
    rounding = binder.instruction.one_of(*_ROUNDINGS) or "rn"
    number = integer_of(target)
    saturates = binder.has("sat")
    (low, high), (least, most) = limits(source), limits(target) if target in INTEGERS else (0, 0)

    def to_float(values: Array) -> Array:
        if target == "f64":
            return values.astype(np.float64).view(np.uint64)
        return encode(_exact_enough(values), target, rounding)

    def to_integer(values: Array) -> Array:
        if saturates:
            values = np.clip(values, max(low, least), min(high, most))
        return values.astype(number)

    if target == "f64" and WIDTH[source] == 64 and rounding != "rn":
        raise binder.instruction.unsupported()
    return to_float if target in FLOATS else to_integer


def _exact_enough(values: Array) -> Array:
    """Give float64 that round to smaller types as the integers would.

    Of numbers above 2^54, bits far below those types' last one are gathered into a single one.
    """
    if values.dtype.itemsize < 8:
        return values.astype(np.float64)
    is_negative = values < 0
    size = np.abs(values).astype(np.uint64)
    low = np.uint64(0x7FF)
    gathered = (size & ~low) | np.where((size & low) != 0, np.uint64(0x800), np.uint64(0))
    size = np.where(size >= np.uint64(1 << 54), gathered, size)
    return np.where(is_negative, -size.astype(np.float64), size.astype(np.float64))


@rule("cvt", ["f32"], "rn rz relu f16x2 bf16x2")
def convert_pair(binder: Binder) -> Execute:
    """Convert two float32 into a pair; the first operand becomes the upper half."""
    target = binder.modifiers[-2]
    if target not in PAIRS:
        raise binder.instruction.unsupported()
    type_, rounding = target.removesuffix("x2"), binder.instruction.one_of("rn", "rz")
    clamps = binder.has("relu")
    write = binder.writer(binder.operands[0], target)
    readers = binder.values(*binder.operands[1:])

    def run(chunk: Chunk, lanes: Lanes) -> None:
        halves = []
        for read in readers:
            values = read(chunk, lanes)
            if clamps:
                values = np.where(values < 0, np.float32(0), values)
            halves.append(encode(values, type_, rounding))
        write(chunk, lanes, join_halves(halves[1], halves[0]))

    return run
