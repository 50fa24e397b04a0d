"""These formulas of csrc/state.h, parts.h, reread.h and requested.h are for Triton, field by field.

A state or a part is passed field after field, since Triton 3.2 has no tuples. Each function takes
numbers of one channel or blocks of several. Integers are int64 and reals are float64, whose
contraction into fused multiply-adds is switched off at compilation.
"""

from __future__ import annotations

import triton
import triton.language as tl

COARSE = tl.constexpr(1.1)  # kCoarse of csrc/reread.h, which bounds the error with it


@triton.jit
def finite_count(count, nan, pos_inf, neg_inf):
    """Count the elements that are neither NaN nor infinite."""
    return count - nan - pos_inf - neg_inf


@triton.jit
def at_least_one(n):
    """Return a number of elements, to divide by."""
    return tl.where(n == 0, 1, n).to(tl.float64)


@triton.jit
def gained_m2(na, mean_a, nb, mean_b, m2_b):
    """Return what merging b into a adds to m2: b's own, and that of the means' distance."""
    delta = mean_b - mean_a
    share = nb.to(tl.float64) / at_least_one(na + nb)
    # In this order nothing overflows or underflows that the product does not.
    apart = delta * (na.to(tl.float64) * share) * delta
    # Where a side is empty its mean means nothing, and delta may overflow.
    return tl.where(na == 0, m2_b, tl.where(nb == 0, 0.0, m2_b + apart))


@triton.jit
def merge(
    a_count,
    a_nan,
    a_pos_inf,
    a_neg_inf,
    a_zeros,
    a_sat_low,
    a_sat_high,
    a_mean,
    a_m2,
    a_min,
    a_max,
    b_count,
    b_nan,
    b_pos_inf,
    b_neg_inf,
    b_zeros,
    b_sat_low,
    b_sat_high,
    b_mean,
    b_m2,
    b_min,
    b_max,
):
    """Combine two states as if their data had been seen together (Chan, Golub, LeVeque 1979)."""
    na = finite_count(a_count, a_nan, a_pos_inf, a_neg_inf)
    nb = finite_count(b_count, b_nan, b_pos_inf, b_neg_inf)
    share = nb.to(tl.float64) / at_least_one(na + nb)
    delta = b_mean - a_mean
    # A distance beyond float64 is gone in halves.
    half = (0.5 * b_mean - 0.5 * a_mean) * share
    mean = tl.where(tl.abs(delta) < float("inf"), a_mean + delta * share, a_mean + half + half)
    return (
        a_count + b_count,
        a_nan + b_nan,
        a_pos_inf + b_pos_inf,
        a_neg_inf + b_neg_inf,
        a_zeros + b_zeros,
        a_sat_low + b_sat_low,
        a_sat_high + b_sat_high,
        tl.where(nb == 0, a_mean, tl.where(na == 0, b_mean, mean)),
        a_m2 + gained_m2(na, a_mean, nb, b_mean, b_m2),
        tl.where(b_min < a_min, b_min, a_min),
        tl.where(b_max > a_max, b_max, a_max),
    )


@triton.jit
def moments(n, sum, sum_sq, low, high, pivot, unit):
    """Return (mean, m2, min, max) of n finite elements from sums of x * unit - pivot."""
    # -0.0 + 0.0 is +0.0: which zero came first must not show in the bits.
    low += 0.0
    high += 0.0
    shift = sum / at_least_one(n)
    m2 = sum_sq - sum * shift
    m2 = tl.where(m2 > 0, m2, 0.0)
    # Squares beyond float64 leave infinity, never what infinity less infinity is.
    m2 = tl.where(sum_sq < float("inf"), m2, float("inf"))
    # Rounding could lead beyond the largest number; a sum that overflowed gives any of the range.
    mean = (pivot + shift) / unit
    mean = tl.where(mean < high, mean, high)
    mean = tl.where(mean > low, mean, low)
    # A constant is exact, however its pivot was rounded.
    mean = tl.where(n == 0, 0.0, tl.where(low == high, low, mean))
    m2 = tl.where((n == 0) | (low == high), 0.0, m2 / unit / unit)
    return mean, m2, low, high


@triton.jit
def too_coarse(na, mean_a, nb, mean_b, m2_b, sum_sq, low, high, smallest):
    """Tell where sums of float32 products must be made again in float64; see csrc/reread.h."""
    gained = gained_m2(na, mean_a, nb, mean_b, m2_b)
    floor = nb.to(tl.float64) * smallest
    # Nothing finite leaves min = inf > max, a constant min = max: both are exact as they are.
    beyond = sum_sq == float("inf")
    return (low < high) & ((sum_sq > COARSE * gained) | (gained < floor) | beyond)


@triton.jit
def read_again(mean, sum_sq):
    """Return (pivot, unit) that a channel is read again with; see csrc/reread.h."""
    unit = tl.where(sum_sq == float("inf"), 2.409919865102884e-181, 1.0)  # 2^-600
    return mean * unit, unit


@triton.jit
def pivot_of(mean, DTYPE: tl.constexpr):
    """Return what sums are made about, as a number of the type that they are made in."""
    if DTYPE == "float64":
        most = 1.7976931348623157e308
        mean = tl.where(mean < most, mean, most)
        return tl.where(mean > -most, mean, -most)
    else:
        most = 3.4028234663852886e38
        mean = tl.where(mean < most, mean, most)
        return tl.where(mean > -most, mean, -most).to(tl.float32)


@triton.jit
def about_mean(n, d1, d2, d3, d4):
    """Return (m2, m3, m4) of n numbers, from sums of powers of their distances from a pivot."""
    shift = d1 / at_least_one(n)
    m2 = d2 - d1 * shift
    m3 = d3 - 3 * shift * d2 + 2 * shift * shift * d1
    m4 = d4 - 4 * shift * d3 + 6 * shift * shift * d2 - 3 * shift * shift * shift * d1
    # Rounding could lead below 0. What is beyond float64 stays so.
    return tl.where(m2 < 0, 0.0, m2), m3, tl.where(m4 < 0, 0.0, m4)


@triton.jit
def merge_moments(na, mean_a, m2_a, m3_a, m4_a, nb, mean_b, m2_b, m3_b, m4_b):
    """Merge the sums of third and fourth powers of deviations from the mean (Pebay 2008)."""
    n = at_least_one(na + nb)
    p = na.to(tl.float64) / n  # the shares of both, which no product of counts overflows
    q = nb.to(tl.float64) / n
    delta = mean_b - mean_a
    of_counts = na.to(tl.float64) * q
    m3 = m3_a + m3_b + delta * (3 * (p * m2_b - q * m2_a))
    m3 += delta * (delta * (of_counts * (p - q)) * delta)
    m4 = m4_a + m4_b + delta * (4 * (p * m3_b - q * m3_a))
    m4 += delta * (6 * (p * p * m2_b + q * q * m2_a)) * delta
    m4 += delta * (delta * (of_counts * (p * p - p * q + q * q)) * delta) * delta
    # Where a side is empty its mean means nothing, and delta may overflow.
    m3 = tl.where(na == 0, m3_b, tl.where(nb == 0, m3_a, m3))
    m4 = tl.where(na == 0, m4_b, tl.where(nb == 0, m4_a, m4))
    return m3, m4
