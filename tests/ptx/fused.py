"""The fused multiply-add of float64, rounded once."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .datatypes import Array
from .floats import add_to_odd

_SPLITTER = 134217729.0  # 2^27 + 1: halves a number of 53 bits


def fma_float64(left: Array, right: Array, addend: Array) -> Array:
    """Multiply and add with one rounding, to nearest (Boldo and Melquiond 2008).

    Their proof needs a product whose lowest bits neither overflow nor underflow; the few others
    are computed as fractions.
    """
    left, right, addend = np.broadcast_arrays(left, right, addend)
    product, lost = _two_product(left, right)
    upper, middle = _two_sum(addend, lost)
    total, rest = _two_sum(product, upper)
    result = total + add_to_odd(rest, middle)
    is_finite = np.isfinite(left) & np.isfinite(right)
    # Infinities, NaN and products of zero need no second rounding.
    is_plain = ~is_finite | ~np.isfinite(addend) | (left == 0) | (right == 0)
    if is_plain.any():
        plain = np.where(is_finite & ~np.isfinite(addend), addend, left * right + addend)
        result = np.where(is_plain, plain, result)
    exponents = np.frexp(left)[1].astype(np.int64) + np.frexp(right)[1]
    is_extreme = (exponents > 1000) | (exponents < -900)
    for factor in (left, right, addend):
        is_extreme |= np.abs(factor) > 2.0**990
    for i in np.nonzero(is_extreme & ~is_plain)[0]:
        result[i] = _fma_of_fractions(float(left[i]), float(right[i]), float(addend[i]))
    return result


def _two_sum(left: Array, right: Array) -> tuple[Array, Array]:
    total = left + right
    back = total - left
    return total, (left - (total - back)) + (right - back)


def _split(values: Array) -> tuple[Array, Array]:
    scaled = values * _SPLITTER
    upper = scaled - (scaled - values)
    return upper, values - upper


def _two_product(left: Array, right: Array) -> tuple[Array, Array]:
    product = left * right
    left_upper, left_lower = _split(left)
    right_upper, right_lower = _split(right)
    lost = left_upper * right_upper - product
    lost = lost + left_upper * right_lower + left_lower * right_upper
    return product, lost + left_lower * right_lower


def _fma_of_fractions(left: float, right: float, addend: float) -> float:
    exact = Fraction(left) * Fraction(right) + Fraction(addend)
    try:
        rounded = float(exact)
    except OverflowError:
        rounded = float("inf")
    # A sum that cancels is +0; one too small for float64 keeps its sign.
    return -abs(rounded) if exact < 0 else abs(rounded)
