"""These functions compare, round and widen floating-point numbers by their bits.

A processor may be told to take subnormal numbers for zeros (`torch.set_flush_denormal`), and
threads may differ in it. What is counted must not depend on that, so that no arithmetic is done
here with numbers that could be subnormal.
"""

from __future__ import annotations

import math
import struct

import torch
from torch import Tensor

_SIGN = -(1 << 63)
_SIZE = 0x7FFFFFFF  # the bits of a float32 without its sign
INFINITY = 0x7FF << 52  # the place of infinity; those of NaN are farther from 0

# dtype: bits of a significand, exponent of the smallest subnormal number, largest number.
_FORMATS = {
    torch.float32: (24, -149, float.fromhex("0x1.fffffep127")),
    torch.float16: (11, -24, 65504.0),
    torch.bfloat16: (8, -133, float.fromhex("0x1.fep127")),
}


def places(x: Tensor) -> Tensor:
    """Return integers, int64, in the order of the numbers in `x`, float64; 0 for both zeros.

    The places of a number and of its negative add up to 0. NaN lie beyond the infinities.
    """
    bits = x.view(torch.int64)
    return torch.where(bits < 0, _SIGN - bits, bits)


def at_places(at: Tensor) -> Tensor:
    """Return the numbers, float64, of which `at` are the `places`; 0.0 of 0."""
    return torch.where(at < 0, _SIGN - at, at).view(torch.float64)


def order_keys(x: Tensor) -> Tensor:
    """Return integers, int32, in the order of the numbers in `x`, float32; -1 for -0.0."""
    bits = x.view(torch.int32)
    return bits ^ ((bits >> 31) & _SIZE)


def at_order_keys(keys: Tensor) -> Tensor:
    """Return the numbers, float64, of which these are the `order_keys`; 0.0 of both zeros."""
    return to_float64((keys ^ ((keys >> 31) & _SIZE)).view(torch.float32)) + 0.0


def place_of(x: float) -> int:
    """Return the place of one number, as `places` does of many."""
    bits: int = struct.unpack("<q", struct.pack("<d", x))[0]
    return _SIGN - bits if bits < 0 else bits


def to_float64(x: Tensor) -> Tensor:
    """Return the numbers in `x`, a tensor of any float dtype, exactly."""
    if x.dtype == torch.float64:
        return x
    x = x.to(torch.float32)  # by bits, or into its normal numbers
    bits = x.view(torch.int32)
    size = (bits & 0x7FFFFF).to(torch.float64) * 2.0**-149
    subnormal = (bits & 0x7F800000) == 0
    return torch.where(subnormal, torch.where(bits < 0, -size, size), x.to(torch.float64))


def round_toward(x: float, dtype: torch.dtype, up: bool) -> float:
    """Return the number of `dtype` nearest to `x` that is not below it, or not above it.

    Args:
        x: a number, or NaN, which stays what it is.
        dtype: float64 changes nothing; or float32, float16 or bfloat16.
        up: whether not below.
    """
    if dtype == torch.float64 or math.isnan(x) or math.isinf(x):
        return x
    place = place_of(x)
    negative, place = place < 0, abs(place)
    bits, smallest, largest = _FORMATS[dtype]
    if place > place_of(largest):
        beyond = math.inf if up != negative else largest
        return -beyond if negative else beyond
    significand, exponent = place & ((1 << 52) - 1), max(place >> 52, 1) - 1075
    if place >> 52:
        significand |= 1 << 52
    last = max(significand.bit_length() + exponent - bits, smallest)  # exponent of the last bit
    dropped = max(last - exponent, 0)
    kept = significand >> dropped
    if kept << dropped != significand and up != negative:
        kept += 1
    rounded = math.ldexp(kept, last if dropped else exponent) if kept else 0.0
    return -rounded if negative else rounded
