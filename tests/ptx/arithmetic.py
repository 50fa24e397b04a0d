"""Floating-point arithmetic.

What PTX calls approximate (`div.full`, `rcp.approx`, ...) is computed exactly rounded: a GPU may
differ from it in the last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .datatypes import WIDTH, Array, Execute, Lanes, Reader, unsigned
from .floats import (
    add_to_odd,
    decode,
    encode,
    flush,
    fma_float32,
    maximum,
    minimum,
    round_to_float32,
)
from .fused import fma_float64
from .operands import Binder
from .registry import rule

if TYPE_CHECKING:
    from .chunk import Chunk

# From the values of the operands to the bits of the result.
Compute = Callable[..., Array]

DIRECTED = ("rz", "rm", "rp")
_HALVES = ("f16", "bf16")
_PAIRS = ("f16x2", "bf16x2")
_SINGLE: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "fma": fma_float32,
    "mad": fma_float32,
    "sqrt": np.sqrt,
    "rcp": np.reciprocal,
}
_DOUBLE = _SINGLE | {"fma": fma_float64, "mad": fma_float64}
# In float64, such that one more rounding to a smaller type is the only one.
_WIDE: dict[str, Callable[..., Array]] = {
    "add": add_to_odd,
    "sub": lambda left, right: add_to_odd(left, -right),
    "mul": np.multiply,
    "fma": lambda left, right, addend: add_to_odd(left * right, addend),
    "mad": lambda left, right, addend: add_to_odd(left * right, addend),
}


@rule("add sub mul fma mad", ["f32"], "rn rz rm rp ftz sat")
@rule("div", ["f32"], "rn full approx ftz")
@rule("sqrt rcp", ["f32"], "rn approx ftz")
def single(binder: Binder) -> Execute:
    """Compute in float32."""
    rounding = binder.instruction.one_of(*DIRECTED)
    compute = _WIDE[binder.name] if rounding else _SINGLE[binder.name]
    write = binder.writer(binder.operands[0])
    readers = binder.values(*binder.operands[1:])
    flushes, saturates = binder.has("ftz"), binder.has("sat")

    def run(chunk: Chunk, lanes: Lanes) -> None:
        values = [read(chunk, lanes) for read in readers]
        if flushes:
            values = [flush(v, "f32") for v in values]
        if rounding:
            exact = compute(*(v.astype(np.float64) for v in values))
            result = round_to_float32(exact, rounding)
        else:
            result = compute(*values)
        if flushes:
            result = flush(result, "f32")
        if saturates:
            result = saturate(result)
        write(chunk, lanes, encode(result, "f32"))

    return run


def saturate(values: Array) -> Array:
    """Clamp to [0, 1]; NaN becomes zero."""
    zero, one = values.dtype.type(0), values.dtype.type(1)
    clamped: Array = np.where(values > zero, np.minimum(values, one), zero)
    return clamped


@rule("add sub mul fma mad div sqrt rcp", ["f64"], "rn")
def double(binder: Binder) -> Execute:
    """Compute in float64."""
    compute = _DOUBLE[binder.name]
    write = binder.writer(binder.operands[0])
    readers = binder.values(*binder.operands[1:])
    return lambda chunk, lanes: write(
        chunk, lanes, compute(*(read(chunk, lanes) for read in readers))
    )


@rule("min max", ["f32", "f64", *_HALVES, *_PAIRS], "NaN ftz")
def extreme(binder: Binder) -> Execute:
    """Give the smallest or the largest of two or three numbers."""
    choose = minimum if binder.name == "min" else maximum
    propagates = binder.has("NaN")

    def compute(first: Array, *others: Array) -> Array:
        for other in others:
            first = choose(first, other, propagate_nan=propagates)
        return first

    return _by_parts(binder, compute)


@rule("add sub mul", [*_HALVES, *_PAIRS], "rn ftz sat")
@rule("fma", [*_HALVES, *_PAIRS], "rn ftz sat relu")
@rule("add sub mul fma", ["f32x2"], "rn ftz")
def packed(binder: Binder) -> Execute:
    """Compute in a type of 16 bits, or with two numbers side by side."""
    wide = _WIDE[binder.name]
    saturates, clamps = binder.has("sat"), binder.has("relu")

    def compute(*values: Array) -> Array:
        exact = wide(*(v.astype(np.float64) for v in values))
        if saturates:
            exact = saturate(exact)
        if clamps:
            exact = np.where(exact < 0, 0.0, exact)
        return exact

    return _by_parts(binder, compute)


@rule("add sub fma", _HALVES, "f32 rn rz rm rp sat")
def mixed(binder: Binder) -> Execute:
    """Compute in float32 with numbers of 16 bits, the last one of 32."""
    if not binder.has("f32"):
        raise binder.instruction.unsupported()
    compute, saturates = _WIDE[binder.name], binder.has("sat")
    rounding = binder.instruction.one_of(*DIRECTED) or "rn"
    write = binder.writer(binder.operands[0])
    narrow = [binder.value(operand, binder.type) for operand in binder.operands[1:-1]]
    readers = [*narrow, binder.value(binder.operands[-1], "f32")]

    def run(chunk: Chunk, lanes: Lanes) -> None:
        exact = compute(*(read(chunk, lanes).astype(np.float64) for read in readers))
        result = round_to_float32(exact, rounding)
        write(chunk, lanes, encode(saturate(result) if saturates else result, "f32"))

    return run


def _by_parts(binder: Binder, compute: Compute) -> Execute:
    """Compute with each number of a register: one, or two halves."""
    type_, flushes = binder.type.removesuffix("x2"), binder.has("ftz")
    write = binder.writer(binder.operands[0])
    parts = [halves_of(binder, operand) for operand in binder.operands[1:]]

    def one(chunk: Chunk, lanes: Lanes, readers: list[Reader]) -> Array:
        values = [decode(read(chunk, lanes), type_) for read in readers]
        if flushes:
            values = [flush(v, type_) for v in values]
        result = encode(compute(*values), type_)
        return encode(flush(decode(result, type_), type_), type_) if flushes else result

    def run(chunk: Chunk, lanes: Lanes) -> None:
        results = [one(chunk, lanes, list(readers)) for readers in zip(*parts, strict=True)]
        write(chunk, lanes, results[0] if len(results) == 1 else join_halves(*results))

    return run


def halves_of(binder: Binder, operand: str) -> list[Reader]:
    """Read the bits of an operand: its lower and its upper half if it is a pair."""
    width = WIDTH[binder.type]
    read = binder.bits(operand, width)
    if not binder.type.endswith("x2"):
        return [read]
    part, shift = unsigned(width // 2), unsigned(width)(width // 2)
    return [
        lambda chunk, lanes: read(chunk, lanes).astype(part),
        lambda chunk, lanes: (read(chunk, lanes) >> shift).astype(part),
    ]


def join_halves(lower: Array, upper: Array) -> Array:
    """Put two halves into one register."""
    width = 8 * lower.dtype.itemsize
    whole = unsigned(2 * width)
    joined: Array = lower.astype(whole) | (upper.astype(whole) << whole(width))
    return joined


@rule("neg abs", ["f32", "f64", *_HALVES, *_PAIRS], "ftz")
def change_sign(binder: Binder) -> Execute:
    """Change the bit of the sign; NaN keep their payload."""
    width = WIDTH[binder.type]
    number, is_pair = unsigned(width), binder.type in _PAIRS
    sign = number(0x80008000 if is_pair else 1 << (width - 1))
    if binder.has("ftz") and is_pair:
        raise binder.instruction.unsupported()
    write, read = binder.writer(binder.operands[0]), binder.bits(binder.operands[1], width)
    flushes, drops = binder.has("ftz"), binder.name == "abs"

    def run(chunk: Chunk, lanes: Lanes) -> None:
        bits = read(chunk, lanes)
        bits = bits & ~sign if drops else bits ^ sign
        if flushes:
            bits = encode(flush(decode(bits, binder.type), binder.type), binder.type)
        write(chunk, lanes, bits)

    return run


@rule("copysign", ["f32", "f64"])
def copy_sign(binder: Binder) -> Execute:
    """Give the second number the sign of the first."""
    write = binder.writer(binder.operands[0])
    sign, size = binder.values(*binder.operands[1:])
    return lambda chunk, lanes: write(
        chunk, lanes, np.copysign(size(chunk, lanes), sign(chunk, lanes))
    )
