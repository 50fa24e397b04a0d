"""Lanes of a tile take elements one by one, and are summed up in the end.

A lane is a place of a tile (slots, elements side by side). In tiles of columns each element side by
side is a channel of its own; else all lanes are of one channel.
"""

from __future__ import annotations

import triton
import triton.language as tl

# A chunk's three counts of one lane share an int32.
LOW_MARK = tl.constexpr(1 << 10)
HIGH_MARK = tl.constexpr(1 << 20)


@triton.jit
def number(raw, DTYPE: tl.constexpr):
    """Return stored elements exactly: as float64 if they are that, else as float32."""
    if DTYPE == "float8_e5m2":  # the upper half of a float16
        return (raw.to(tl.uint16) << 8).to(tl.float16, bitcast=True).to(tl.float32)
    elif DTYPE == "float8_e4m3fn":
        # Exponent and mantissa moved under those of a float16, whose bias is larger by 8.
        bits = raw.to(tl.uint16)
        moved = ((bits & 0x80) << 8) | ((bits & 0x7F) << 7)
        x = moved.to(tl.float16, bitcast=True).to(tl.float32) * 256.0
        return tl.where((bits & 0x7F) == 0x7F, float("nan"), x)
    elif DTYPE == "bfloat16":  # the upper half of a float32
        return (raw.to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    elif DTYPE == "float64":
        return raw
    else:
        return raw.to(tl.float32)


@triton.jit
def take(x, pivot, sum, sum_sq, low, high, marks, tol, at_low, at_high, MODE: tl.constexpr):
    """Add one element to each lane. What NaN and infinities do to sums and range is seen later."""
    d = x - pivot
    sum += d
    sum_sq = tl.fma(d, d, sum_sq)
    low = tl.minimum(low, x)
    high = tl.maximum(high, x)
    if MODE == "all":
        marks += tl.where(tl.abs(x) <= tol, 1, 0)
        marks += tl.where(x <= at_low, LOW_MARK, 0)
    else:
        marks += tl.where(x == 0, 1, 0)
    if MODE != "plain":
        marks += tl.where(x >= at_high, HIGH_MARK, 0)
    return sum, sum_sq, low, high, marks


@triton.jit
def take_counts(
    x,
    present,
    nan,
    pos_inf,
    neg_inf,
    zeros,
    sat_low,
    sat_high,
    low,
    high,
    tol,
    at_low,
    at_high,
):
    """Count those elements of float64 that are present and widen the range by them."""
    size = tl.abs(x)
    finite = present & (size < float("inf"))
    infinite = present & (size == float("inf"))
    nan += (present & (x != x)).to(tl.int64)
    pos_inf += (infinite & (x > 0)).to(tl.int64)
    neg_inf += (infinite & (x < 0)).to(tl.int64)
    zeros += (present & (size <= tol)).to(tl.int64)
    sat_low += (present & (x <= at_low)).to(tl.int64)
    sat_high += (present & (x >= at_high)).to(tl.int64)
    low = tl.where(finite & (x < low), x, low)
    high = tl.where(finite & (x > high), x, high)
    return nan, pos_inf, neg_inf, zeros, sat_low, sat_high, low, high


@triton.jit
def add_exactly(x, sum, rest):
    """Return (sum + x, rest + what its rounding left over) by Knuth's two-sum."""
    total = sum + x
    back = total - sum
    # Where a square is beyond float64, infinity less infinity must not spoil the sum.
    left_over = (sum - (total - back)) + (x - back)
    return total, rest + tl.where(tl.abs(total) < float("inf"), left_over, 0.0)


@triton.jit
def counts(marks):
    """Return (zeros, sat_low, sat_high) of each lane."""
    return marks % LOW_MARK, marks // LOW_MARK % LOW_MARK, marks // HIGH_MARK


@triton.jit
def over(lanes, COLUMNS: tl.constexpr):
    """Return the sum of lanes, in an order of the program's own: of each column, or of all."""
    if COLUMNS:
        return tl.sum(lanes, axis=0)
    else:
        return tl.sum(tl.sum(lanes, axis=1), axis=0)


@triton.jit
def least(lanes, COLUMNS: tl.constexpr):
    """Return the minimum of lanes that hold no NaN."""
    if COLUMNS:
        return tl.min(lanes, axis=0)
    else:
        return tl.min(tl.min(lanes, axis=1), axis=0)


@triton.jit
def spread(of_channel, COLUMNS: tl.constexpr):
    """Spread what is known of a channel, or of the channels of a tile, over its lanes."""
    if COLUMNS:
        return of_channel[None, :]
    else:
        return of_channel
