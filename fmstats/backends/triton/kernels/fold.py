"""The second kernel: a channel's parts, added up in their order, into its state.

A channel whose sums cancel or underflow in float32 is measured again, in float64.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fmstats.backends.triton.kernels.formulas import (
    finite_count,
    merge,
    moments,
    read_again,
    too_coarse,
)
from fmstats.backends.triton.kernels.measure import PART_FIELDS, running_moments
from fmstats.backends.triton.kernels.walk import measure_exactly


@triton.jit
def part_words(parts, field, part_row, stretch, stretches):
    """A field of the parts of some stretches of a channel, 0 beyond the last one."""
    p = parts + (stretch * PART_FIELDS + field) * part_row
    return tl.load(p, mask=stretch < stretches, other=0)


@triton.jit
def fold(
    x,
    state,
    parts,
    thresholds,
    row,
    part_row,
    channel_stride,
    positions,
    stretches,
    n1,
    n2,
    n3,
    s0,
    s1,
    s2,
    s3,
    DTYPE: tl.constexpr,
    LANES: tl.constexpr,
):
    """Merge the parts of a channel into its state, or measure it again if they are too coarse.

    Args are as of `measure`, but that distances are in elements and there are always four dims.
    """
    channel = tl.program_id(0).to(tl.int64)
    parts += channel
    nan = tl.zeros((LANES,), tl.int64)
    pos_inf = tl.zeros((LANES,), tl.int64)
    neg_inf = tl.zeros((LANES,), tl.int64)
    zeros = tl.zeros((LANES,), tl.int64)
    sat_low = tl.zeros((LANES,), tl.int64)
    sat_high = tl.zeros((LANES,), tl.int64)
    sum = tl.zeros((LANES,), tl.float64)
    sum_sq = tl.zeros((LANES,), tl.float64)
    low = tl.full((LANES,), float("inf"), tl.float64)
    high = tl.full((LANES,), float("-inf"), tl.float64)
    at = tl.arange(0, LANES).to(tl.int64)
    for _ in range(0, tl.cdiv(stretches, LANES).to(tl.int32)):
        nan += part_words(parts, 0, part_row, at, stretches)
        pos_inf += part_words(parts, 1, part_row, at, stretches)
        neg_inf += part_words(parts, 2, part_row, at, stretches)
        zeros += part_words(parts, 3, part_row, at, stretches)
        sat_low += part_words(parts, 4, part_row, at, stretches)
        sat_high += part_words(parts, 5, part_row, at, stretches)
        sum += part_words(parts, 6, part_row, at, stretches).to(tl.float64, bitcast=True)
        sum_sq += part_words(parts, 7, part_row, at, stretches).to(tl.float64, bitcast=True)
        part_low = part_words(parts, 8, part_row, at, stretches).to(tl.float64, bitcast=True)
        part_high = part_words(parts, 9, part_row, at, stretches).to(tl.float64, bitcast=True)
        low = tl.where((at < stretches) & (part_low < low), part_low, low)
        high = tl.where((at < stretches) & (part_high > high), part_high, high)
        at += LANES
    nan = tl.sum(nan, axis=0)
    pos_inf = tl.sum(pos_inf, axis=0)
    neg_inf = tl.sum(neg_inf, axis=0)
    zeros = tl.sum(zeros, axis=0)
    sat_low = tl.sum(sat_low, axis=0)
    sat_high = tl.sum(sat_high, axis=0)
    sum = tl.sum(sum, axis=0)
    sum_sq = tl.sum(sum_sq, axis=0)
    low = tl.min(low, axis=0)
    high = tl.max(high, axis=0)
    pivot = tl.load(parts + 10 * part_row).to(tl.float64, bitcast=True)

    s = state + channel
    before, before_mean, before_m2 = running_moments(state, row, channel, channel >= 0)
    n = finite_count(positions, nan, pos_inf, neg_inf)
    mean, m2, low, high = moments(n, sum, sum_sq, low, high, pivot, 1.0)
    if DTYPE == "float64":
        smallest = 0.0
    else:
        smallest = 1.1754943508222875e-38  # 2^-126: a square below it has lost bits
    if too_coarse(before, before_mean, n, mean, m2, sum_sq, low, high, smallest):
        pivot, unit = read_again(mean, sum_sq)
        nan, pos_inf, neg_inf, zeros, sat_low, sat_high, sum, sum_sq, low, high = measure_exactly(
            x,
            channel * channel_stride,
            tl.arange(0, 1),
            (tl.arange(0, 1) >= 0)[None, :],
            positions * 0,
            positions,
            pivot,
            unit,
            thresholds,
            n1,
            n2,
            n3,
            s0,
            s1,
            s2,
            s3,
            DTYPE,
            False,
            1,
            1,
            LANES,
            4,
            tl.int64,
        )
        mean, m2, low, high = moments(n, sum, sum_sq, low, high, pivot, unit)
    count, nan, pos_inf, neg_inf, zeros, sat_low, sat_high, mean, m2, low, high = merge(
        tl.load(s),
        tl.load(s + row),
        tl.load(s + 2 * row),
        tl.load(s + 3 * row),
        tl.load(s + 4 * row),
        tl.load(s + 5 * row),
        tl.load(s + 6 * row),
        before_mean,
        before_m2,
        tl.load(s + 9 * row).to(tl.float64, bitcast=True),
        tl.load(s + 10 * row).to(tl.float64, bitcast=True),
        positions,
        nan,
        pos_inf,
        neg_inf,
        zeros,
        sat_low,
        sat_high,
        mean,
        m2,
        low,
        high,
    )
    tl.store(s, count)
    tl.store(s + row, nan)
    tl.store(s + 2 * row, pos_inf)
    tl.store(s + 3 * row, neg_inf)
    tl.store(s + 4 * row, zeros)
    tl.store(s + 5 * row, sat_low)
    tl.store(s + 6 * row, sat_high)
    tl.store(s + 7 * row, mean.to(tl.int64, bitcast=True))
    tl.store(s + 8 * row, m2.to(tl.int64, bitcast=True))
    tl.store(s + 9 * row, low.to(tl.int64, bitcast=True))
    tl.store(s + 10 * row, high.to(tl.int64, bitcast=True))
