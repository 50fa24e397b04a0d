"""Floating point as the GPU does it: one rounding, subnormals kept, NaN made canonical.

Products of numbers of 24 bits are exact in float64. A sum that is not is rounded to odd there (its
last bit is set if anything was lost), after which the rounding to a type of at most 24 bits gives
what a single rounding would have given (Boldo and Melquiond 2008).
"""

from __future__ import annotations

import numpy as np

from .datatypes import Array

CANONICAL_NAN = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": 0x7FFFFFFF}
SMALLEST_NORMAL = {"f16": 2.0**-14, "bf16": 2.0**-126, "f32": 2.0**-126}
_NAN_F32 = np.uint32(CANONICAL_NAN["f32"]).view(np.float32)
_HALF_OF_A_FLOAT32_STEP = np.uint64(0x10000000)
_BELOW_FLOAT32 = np.uint64(0x1FFFFFFF)


def decode(bits: Array, type_: str) -> Array:
    """Read raw bits as numbers: float64, float32, and halves as float32."""
    if type_ == "f32":
        return bits.view(np.float32)
    if type_ == "f64":
        return bits.view(np.float64)
    if type_ == "f16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def encode(values: Array, type_: str, rounding: str = "rn") -> Array:
    """Round numbers once to a type and give their bits; NaN as the canonical one."""
    if type_ == "f64":
        return values.astype(np.float64).view(np.uint64)
    if type_ == "f32":
        rounded = values if values.dtype == np.float32 else round_to_float32(values, rounding)
        return canonical(rounded).view(np.uint32)
    exact = values if values.dtype == np.float32 else _round_to_odd_float32(values)
    bits = _encode_f16(exact, rounding) if type_ == "f16" else _encode_bf16(exact, rounding)
    return np.where(np.isnan(exact), np.uint16(CANONICAL_NAN[type_]), bits)


def canonical(values: Array) -> Array:
    """Give float32 values whose NaN are the one that the GPU's arithmetic makes."""
    is_nan = np.isnan(values)
    return np.where(is_nan, _NAN_F32, values) if is_nan.any() else values


def flush(values: Array, type_: str) -> Array:
    """Replace subnormal numbers by zeros of their sign (`.ftz`)."""
    is_subnormal = np.abs(values) < SMALLEST_NORMAL[type_]
    return np.where(is_subnormal, np.copysign(values.dtype.type(0), values), values)


def round_to_float32(values: Array, rounding: str) -> Array:
    """Round float64 to float32."""
    rounded = values.astype(np.float32)
    return rounded if rounding == "rn" else _step_back(values, rounded, rounding)


def _step_back(values: Array, nearest: Array, rounding: str) -> Array:
    """Turn the nearest number into the next one that a directed rounding asks for."""
    exact, found = values.astype(np.float64), nearest.astype(np.float64)
    zero = nearest.dtype.type(0)
    if rounding == "rz":
        return np.where(np.abs(found) > np.abs(exact), np.nextafter(nearest, zero), nearest)
    limit = nearest.dtype.type(np.inf)
    if rounding == "rm":
        return np.where(found > exact, np.nextafter(nearest, -limit), nearest)
    return np.where(found < exact, np.nextafter(nearest, limit), nearest)


def _round_to_odd_float32(values: Array) -> Array:
    cut = round_to_float32(values, "rz")
    is_inexact = (cut.astype(np.float64) != values) & np.isfinite(cut)
    return np.where(is_inexact, cut.view(np.uint32) | np.uint32(1), cut.view(np.uint32)).view(
        np.float32
    )


def _encode_f16(values: Array, rounding: str) -> Array:
    rounded = values.astype(np.float16)
    return (rounded if rounding == "rn" else _step_back(values, rounded, rounding)).view(np.uint16)


def _encode_bf16(values: Array, rounding: str) -> Array:
    bits = values.view(np.uint32)
    upper, lower = bits >> np.uint32(16), bits & np.uint32(0xFFFF)
    if rounding == "rn":
        up = lower + (upper & np.uint32(1)) > np.uint32(0x8000)
    elif rounding == "rz":
        up = np.zeros(len(bits), bool)
    else:
        up = (lower != 0) & (np.signbit(values) == (rounding == "rm"))
    return (upper + up).astype(np.uint16)


def add_to_odd(left: Array, right: Array) -> Array:
    """Add float64 numbers, rounding to odd."""
    total = left + right
    back = total - left
    error = (left - (total - back)) + (right - back)
    is_even = (total.view(np.uint64) & np.uint64(1)) == 0
    fix = (error != 0) & np.isfinite(total) & is_even
    if not fix.any():
        return total
    return np.where(fix, np.nextafter(total, np.where(error > 0, np.inf, -np.inf)), total)


def fma_float32(left: Array, right: Array, addend: Array) -> Array:
    """Multiply and add float32 with one rounding, to nearest."""
    product = left.astype(np.float64) * right
    total = product + addend
    # Two roundings differ from one only at the middle between two float32, or below the normals.
    is_middle = (total.view(np.uint64) & _BELOW_FLOAT32) == _HALF_OF_A_FLOAT32_STEP
    is_small = (np.abs(total) < SMALLEST_NORMAL["f32"]) & (total != 0)
    if (is_middle | is_small).any():
        total = add_to_odd(product, addend.astype(np.float64))
    return total.astype(np.float32)


def minimum(left: Array, right: Array, *, propagate_nan: bool) -> Array:
    """Give the smaller number: -0.0 below +0.0; NaN only if both are, or if it is propagated."""
    least = (np.minimum if propagate_nan else np.fmin)(left, right)
    ties = (left == 0) & (right == 0)
    if ties.any():
        sign = np.signbit(left) | np.signbit(right)
        least = np.where(ties, np.where(sign, least.dtype.type(-0.0), least.dtype.type(0)), least)
    return least


def maximum(left: Array, right: Array, *, propagate_nan: bool) -> Array:
    """Give the larger number, by the same rules."""
    return -minimum(-left, -right, propagate_nan=propagate_nan)
