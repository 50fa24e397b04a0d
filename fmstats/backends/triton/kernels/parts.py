"""Parts are what stretches come to, in memory between the two launches."""

from __future__ import annotations

import triton
import triton.language as tl

from fmstats.backends.triton.kernels.words import (
    PART_MAX,
    PART_MIN,
    PART_NAN,
    PART_NEG_INF,
    PART_POS_INF,
    PART_SAT_HIGH,
    PART_SAT_LOW,
    PART_SUM,
    PART_SUM_SQ,
    PART_ZEROS,
    PIVOT,
)


@triton.jit
def store_part(
    p,
    part_row,
    nan,
    pos_inf,
    neg_inf,
    zeros,
    sat_low,
    sat_high,
    sum,
    sum_sq,
    low,
    high,
    pivot,
    mine,
):
    """Store the fields of a part, whose first word is at `p`, and what its sums are about."""
    tl.store(p + PART_NAN * part_row, nan, mask=mine)
    tl.store(p + PART_POS_INF * part_row, pos_inf, mask=mine)
    tl.store(p + PART_NEG_INF * part_row, neg_inf, mask=mine)
    tl.store(p + PART_ZEROS * part_row, zeros, mask=mine)
    tl.store(p + PART_SAT_LOW * part_row, sat_low, mask=mine)
    tl.store(p + PART_SAT_HIGH * part_row, sat_high, mask=mine)
    tl.store(p + PART_SUM * part_row, sum.to(tl.int64, bitcast=True), mask=mine)
    tl.store(p + PART_SUM_SQ * part_row, sum_sq.to(tl.int64, bitcast=True), mask=mine)
    tl.store(p + PART_MIN * part_row, low.to(tl.int64, bitcast=True), mask=mine)
    tl.store(p + PART_MAX * part_row, high.to(tl.int64, bitcast=True), mask=mine)
    tl.store(p + PIVOT * part_row, pivot.to(tl.float64).to(tl.int64, bitcast=True), mask=mine)


@triton.jit
def part_words(parts, field, part_row, stretch, stretches, WORDS: tl.constexpr):
    """Load a field of the parts of some stretches of a channel, 0 beyond the last one."""
    p = parts + (stretch * WORDS + field) * part_row
    return tl.load(p, mask=stretch < stretches, other=0)


@triton.jit
def part_reals(parts, field, part_row, stretch, stretches, WORDS: tl.constexpr):
    """Load a field of float64 of the parts of some stretches, as `part_words` does."""
    words = part_words(parts, field, part_row, stretch, stretches, WORDS)
    return words.to(tl.float64, bitcast=True)
