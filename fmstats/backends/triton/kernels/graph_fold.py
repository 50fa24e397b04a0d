"""This kernel merges the partials of one layer of a graph into its state.

A program takes LANES channels, ROWS planes at a time.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fmstats.backends.triton.kernels.formulas import finite_count, merge, moments
from fmstats.backends.triton.kernels.stored import note_first, store_state
from fmstats.backends.triton.kernels.words import (
    ALARM,
    COUNT,
    ENABLED,
    FIRST_PASS,
    FIRST_STEP,
    M2,
    MAX,
    MEAN,
    MIN,
    NAN,
    NEG_INF,
    NOW_PASS,
    NOW_STEP,
    PHASE,
    POS_INF,
    SAT_HIGH,
    SAT_LOW,
    WORDS_OF_CHANNEL,
    ZEROS,
)
from fmstats.statistic.partials import ALL_SUMS

# Keys of the infinities: extremes are integers in the order of floats.
NO_MIN, NO_MAX = tl.constexpr(0x7F800000), tl.constexpr(-0x7F800001)
WORDS_OF_SUMS = tl.constexpr(2 * len(ALL_SUMS))  # float64


@triton.jit
def next_count(words, group, step, offset, here, bits, there, begins, NUMBER: tl.constexpr):
    """Return a count of some planes and channels, and the words and the group that it is in.

    Args:
        words: what the number of the count before is, without the bits of those before.
        group: where the numbers of that one are.
        step: from the numbers of a group to those of the next.
        offset: of the planes and channels.
        here: which of them there are.
        bits: of a count.
        there: a bit for each count, whether the layer has it.
        begins: a bit for each count, whether it is the first of its group, whose number is loaded.
        NUMBER: of the count.
    """
    group += ((begins >> NUMBER) & 1) * step
    is_there = ((there >> NUMBER) & 1) + tl.zeros_like(words)
    is_first = ((begins >> NUMBER) & 1) + tl.zeros_like(words) > 0
    loaded = tl.load(group + offset, mask=here & is_first, other=0).to(tl.int64)
    words = tl.where(is_first, loaded, words >> (is_there * bits))
    return (words & ((1 << bits) - 1)) * is_there, words, group


@triton.jit
def sums_at(field, offset, here):
    """Load a sum of some planes and channels, 0 where there are none."""
    return tl.load(field + offset, mask=here, other=0.0)


@triton.jit
def number_at(key):
    """Return the number that has a key in the order of floats."""
    bits = key ^ ((key >> 31) & 0x7FFFFFFF)
    return bits.to(tl.float32, bitcast=True).to(tl.float64)


@triton.jit
def word_at(s, field, row, inside):
    """Load a word of some channels of a state."""
    return tl.load(s + field * row, mask=inside, other=0)


@triton.jit
def real_at(s, field, row, inside):
    """Load a float64 word of some channels of a state."""
    return word_at(s, field, row, inside).to(tl.float64, bitcast=True)


@triton.jit
def graph_fold(
    partials,
    state,
    clock,
    channels,
    planes,
    bits,
    there,
    begins,
    positions,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
):
    """Merge the partials of a layer into its state, if the gate of the clock is open.

    Args:
        partials: int32, as `statistic/partials.py` tells: sums, counts, extremes.
        state: the memory of a `State`.
        clock: the words of a `Clock`.
        channels: how many.
        planes: how many.
        bits: of a count.
        there: a bit for each of `PART_FIELDS`, whether the layer has it.
        begins: a bit for each, whether it is the first count of a number.
        positions: elements of a channel in all planes.
        ROWS: planes at a time.
        LANES: channels of a program.
    """
    if (tl.load(clock + ENABLED) == 0) | (tl.load(clock + PHASE) != 0):
        return
    step = planes.to(tl.int64) * channels
    sums = partials.to(tl.pointer_type(tl.float64))
    no_group = partials.to(tl.pointer_type(tl.float32)) + (WORDS_OF_SUMS - 1) * step
    channel = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    inside = channel < channels
    plane = tl.arange(0, ROWS).to(tl.int64)
    nan = tl.zeros((ROWS, LANES), tl.int64)
    pos_inf = tl.zeros((ROWS, LANES), tl.int64)
    neg_inf = tl.zeros((ROWS, LANES), tl.int64)
    zeros = tl.zeros((ROWS, LANES), tl.int64)
    sat_low = tl.zeros((ROWS, LANES), tl.int64)
    sat_high = tl.zeros((ROWS, LANES), tl.int64)
    sum = tl.zeros((ROWS, LANES), tl.float64)
    sum_sq = tl.zeros((ROWS, LANES), tl.float64)
    low = tl.full((ROWS, LANES), NO_MIN, tl.int32)
    high = tl.full((ROWS, LANES), NO_MAX, tl.int32)
    for _ in range(0, tl.cdiv(planes, ROWS).to(tl.int32)):
        here = (plane < planes)[:, None] & inside[None, :]
        offset = plane[:, None] * channels + channel[None, :]
        words, group = tl.zeros((ROWS, LANES), tl.int64), no_group
        count, words, group = next_count(words, group, step, offset, here, bits, there, begins, 0)
        nan += count
        count, words, group = next_count(words, group, step, offset, here, bits, there, begins, 1)
        pos_inf += count
        count, words, group = next_count(words, group, step, offset, here, bits, there, begins, 2)
        neg_inf += count
        count, words, group = next_count(words, group, step, offset, here, bits, there, begins, 3)
        zeros += count
        count, words, group = next_count(words, group, step, offset, here, bits, there, begins, 4)
        sat_low += count
        count, words, group = next_count(words, group, step, offset, here, bits, there, begins, 5)
        sat_high += count
        sum += sums_at(sums, offset, here)
        sum_sq += sums_at(sums + step, offset, here)
        extremes = group.to(tl.pointer_type(tl.int32)) + step + offset
        low = tl.minimum(low, tl.load(extremes, mask=here, other=NO_MIN))
        high = tl.maximum(high, tl.load(extremes + step, mask=here, other=NO_MAX))
        plane += ROWS
    nan = tl.sum(nan, axis=0)
    pos_inf = tl.sum(pos_inf, axis=0)
    neg_inf = tl.sum(neg_inf, axis=0)
    zeros = tl.sum(zeros, axis=0)
    sat_low = tl.sum(sat_low, axis=0)
    sat_high = tl.sum(sat_high, axis=0)
    n = finite_count(positions, nan, pos_inf, neg_inf)
    mean, m2, low, high = moments(
        n,
        tl.sum(sum, axis=0),
        tl.sum(sum_sq, axis=0),
        number_at(tl.min(low, axis=0)),
        number_at(tl.max(high, axis=0)),
        tl.zeros((LANES,), tl.float64),
        1.0,
    )
    s = state + channel
    row = channels
    non_finite = inside & (nan + pos_inf + neg_inf > 0)
    note_first(s + FIRST_PASS * row, clock + NOW_PASS, non_finite)
    note_first(s + FIRST_STEP * row, clock + NOW_STEP, non_finite)
    met = tl.max(non_finite.to(tl.int32), axis=0) > 0
    tl.atomic_xchg(clock + ALARM, 1, mask=met, sem="relaxed")  # others may set it, too
    count, nan, pos_inf, neg_inf, zeros, sat_low, sat_high, mean, m2, low, high = merge(
        word_at(s, COUNT, row, inside),
        word_at(s, NAN, row, inside),
        word_at(s, POS_INF, row, inside),
        word_at(s, NEG_INF, row, inside),
        word_at(s, ZEROS, row, inside),
        word_at(s, SAT_LOW, row, inside),
        word_at(s, SAT_HIGH, row, inside),
        real_at(s, MEAN, row, inside),
        real_at(s, M2, row, inside),
        real_at(s, MIN, row, inside),
        real_at(s, MAX, row, inside),
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
    store_state(
        s, row, count, nan, pos_inf, neg_inf, zeros, sat_low, sat_high, mean, m2, low, high, inside
    )
    tensors = state + WORDS_OF_CHANNEL * row  # the word behind those of a state
    tl.store(tensors, tl.load(tensors) + 1, mask=tl.program_id(0) == 0)
