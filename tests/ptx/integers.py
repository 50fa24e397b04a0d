"""Integer arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .datatypes import INTEGERS, SIGNED, WIDTH, Array, Execute, Lanes, integer_of, limits
from .operands import Binder
from .registry import rule

if TYPE_CHECKING:
    from .chunk import Chunk

_WORDS = INTEGERS - {"u8", "s8"}
_NARROW = sorted(_WORDS - {"u64", "s64"})
_WRAPPING = {
    "add": np.add,
    "sub": np.subtract,
    "min": np.minimum,
    "max": np.maximum,
}


@rule("add sub min max", _WORDS)
def wrapping(binder: Binder) -> Execute:
    """Add and the like, losing what does not fit."""
    combine = _WRAPPING[binder.name]
    write = binder.writer(binder.operands[0])
    left, right = binder.values(*binder.operands[1:])
    return lambda chunk, lanes: write(
        chunk, lanes, combine(left(chunk, lanes), right(chunk, lanes))
    )


@rule("add sub", ["s32"], "sat")
def saturating(binder: Binder) -> Execute:
    """Add or subtract, staying at the limits."""
    combine, (low, high) = _WRAPPING[binder.name], limits("s32")
    write = binder.writer(binder.operands[0])
    left, right = binder.values(*binder.operands[1:])

    def run(chunk: Chunk, lanes: Lanes) -> None:
        exact = combine(left(chunk, lanes).astype(np.int64), right(chunk, lanes))
        write(chunk, lanes, np.clip(exact, low, high).astype(np.int32))

    return run


def high_half(left: Array, right: Array, type_: str) -> Array:
    """Give the upper half of a product."""
    width = WIDTH[type_]
    if width < 64:
        wide = integer_of(type_[0] + str(2 * width))
        upper: Array = (left.astype(wide) * right.astype(wide)) >> wide(width)
        return upper.astype(left.dtype)
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a, b = left.view(np.uint64), right.view(np.uint64)
    low_low = (a & mask) * (b & mask)
    high_low = (a >> half) * (b & mask) + (low_low >> half)
    low_high = (a & mask) * (b >> half) + (high_low & mask)
    upper = (a >> half) * (b >> half) + (high_low >> half) + (low_high >> half)
    if type_ in SIGNED:
        # As unsigned numbers, negative ones are too large by 2^64.
        upper = upper - np.where(left < 0, b, np.uint64(0)) - np.where(right < 0, a, np.uint64(0))
    return upper.view(left.dtype)


@rule("mul", _WORDS, "lo hi")
@rule("mad", _WORDS, "lo hi")
def multiply(binder: Binder) -> Execute:
    """Give a half of a product, plus a number."""
    write = binder.writer(binder.operands[0])
    left, right, *addend = binder.values(*binder.operands[1:])
    is_high = binder.has("hi")

    def run(chunk: Chunk, lanes: Lanes) -> None:
        a, b = left(chunk, lanes), right(chunk, lanes)
        product = high_half(a, b, binder.type) if is_high else a * b
        write(chunk, lanes, product + addend[0](chunk, lanes) if addend else product)

    return run


@rule("mul mad", _NARROW, "wide")
def multiply_wide(binder: Binder) -> Execute:
    """Give a whole product, plus a number of its width."""
    wide_type = binder.type[0] + str(2 * WIDTH[binder.type])
    wide = integer_of(wide_type)
    write = binder.writer(binder.operands[0], wide_type)
    left, right = binder.values(*binder.operands[1:3])
    addend = binder.values(*binder.operands[3:], type_=wide_type)

    def run(chunk: Chunk, lanes: Lanes) -> None:
        product = left(chunk, lanes).astype(wide) * right(chunk, lanes).astype(wide)
        write(chunk, lanes, product + addend[0](chunk, lanes) if addend else product)

    return run


@rule("mul24 mad24", ["s32", "u32"], "lo")
def multiply_24(binder: Binder) -> Execute:
    """Multiply the lower 24 bits."""
    shift = np.dtype(integer_of(binder.type)).type(8)
    write = binder.writer(binder.operands[0])
    left, right, *addend = binder.values(*binder.operands[1:])

    def run(chunk: Chunk, lanes: Lanes) -> None:
        a, b = ((read(chunk, lanes) << shift) >> shift for read in (left, right))
        product = a * b
        write(chunk, lanes, product + addend[0](chunk, lanes) if addend else product)

    return run


@rule("div rem", _WORDS)
def divide(binder: Binder) -> Execute:
    """Divide towards zero. By zero, PTX leaves the result open: all bits set, and the dividend."""
    write = binder.writer(binder.operands[0])
    left, right = binder.values(*binder.operands[1:])
    is_signed, is_quotient = binder.type in SIGNED, binder.name == "div"
    raw = np.dtype(integer_of("u" + binder.type[1:]))

    def run(chunk: Chunk, lanes: Lanes) -> None:
        a, b = np.broadcast_arrays(left(chunk, lanes), right(chunk, lanes))
        # As unsigned magnitudes even the smallest number has its negation.
        size = np.abs(a).view(raw) if is_signed else a
        by = np.abs(b).view(raw) if is_signed else b
        by = np.where(by == 0, raw.type(1), by)
        if is_quotient:
            result = size // by
            negate = (a < 0) != (b < 0) if is_signed else None
        else:
            result = size % by
            negate = a < 0 if is_signed else None
        if negate is not None:
            result = np.where(negate, raw.type(0) - result, result)
        by_zero = ~raw.type(0) if is_quotient else a.view(raw)
        write(chunk, lanes, np.where(b == 0, by_zero, result).view(a.dtype))

    return run


@rule("neg abs", ["s16", "s32", "s64"])
def negate(binder: Binder) -> Execute:
    """Negate, or drop the sign; the smallest number stays as it is."""
    function = np.negative if binder.name == "neg" else np.abs
    write = binder.writer(binder.operands[0])
    read = binder.value(binder.operands[1], binder.type)
    return lambda chunk, lanes: write(chunk, lanes, function(read(chunk, lanes)))


@rule("sad", _WORDS)
def add_difference(binder: Binder) -> Execute:
    """Add how far two numbers are apart."""
    write = binder.writer(binder.operands[0])
    readers = binder.values(*binder.operands[1:])

    def run(chunk: Chunk, lanes: Lanes) -> None:
        a, b, addend = (read(chunk, lanes) for read in readers)
        write(chunk, lanes, addend + np.maximum(a, b) - np.minimum(a, b))

    return run


@rule("dp4a", ["u32", "s32"], "u32 s32")
@rule("dp2a", ["u32", "s32"], "u32 s32 lo hi")
def dot(binder: Binder) -> Execute:
    """Multiply small numbers packed into two registers, and add them all to a third."""
    left_type, right_type = binder.modifiers[-2:]
    is_signed = "s32" in (left_type, right_type)
    write = binder.writer(binder.operands[0])
    left, right, addend = (binder.bits(operand, 32) for operand in binder.operands[1:])
    first_byte = 2 if binder.has("hi") else 0
    terms = 4 if binder.name == "dp4a" else 2

    def run(chunk: Chunk, lanes: Lanes) -> None:
        a, b, total = left(chunk, lanes), right(chunk, lanes), addend(chunk, lanes)
        for k in range(terms):
            size = 32 // terms
            factor = _part(a, size * k, size, left_type)
            total = total + factor * _part(b, 8 * (first_byte + k), 8, right_type)
        write(chunk, lanes, total.view(np.int32) if is_signed else total)

    return run


def _part(bits: Array, shift: int, size: int, type_: str) -> Array:
    """Give some bits as a number, extended to 32 bits."""
    up, down = np.uint32(32 - shift - size), 32 - size
    moved = bits << up
    if type_ in SIGNED:
        return (moved.view(np.int32) >> np.int32(down)).view(np.uint32)
    return moved >> np.uint32(down)
