"""The first kernel measures a stretch of channels, each element once, into parts.

A program walks over slots, all of one channel (rows, strided) or of WIDTH neighbouring channels
(columns). A slot is VECTOR elements side by side, which a thread loads at once; distances are in
slots, so that the compiler sees where vectors begin. Each lane adds up UNROLL elements in float32,
no more than csrc/reread.h bounds the error of, about a pivot that every program of a channel
finds alike; above, sums are float64. A stretch whose squares are not finite is read again in
float64.

Nothing depends on time: programs write parts of their own. Nothing is cleared beforehand, and there
are no atomics.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fmstats.backends.triton.kernels.before import SAMPLES, closed, first_pivot, running_moments
from fmstats.backends.triton.kernels.formulas import pivot_of
from fmstats.backends.triton.kernels.lanes import counts, least, number, over, spread, take
from fmstats.backends.triton.kernels.walk import load_tile, measure_exactly, offset_of
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
    PART_WORDS,
    PART_ZEROS,
    PIVOT,
)


@triton.jit
def measure(
    x,
    state,
    parts,
    thresholds,
    clock,
    replayed,
    row,
    part_row,
    channels,
    channel_stride,
    slots,
    per_stretch,
    pieces,
    n1,
    n2,
    n3,
    s0,
    s1,
    s2,
    s3,
    DTYPE: tl.constexpr,
    MODE: tl.constexpr,
    COLUMNS: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDTH: tl.constexpr,
    LANES: tl.constexpr,
    UNROLL: tl.constexpr,
    AGAIN: tl.constexpr,
    DIMS: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Measure a stretch of one channel, or of WIDTH of them, into a part.

    Args:
        x: elements. A tile is LANES slots of one channel, or LANES positions of WIDTH channels.
        state, row: the words of statistic.State, and how far apart its rows are.
        parts, part_row: words, PART_WORDS rows for each stretch, and how far apart rows are.
        thresholds: float64 zero_tol, low, high, rounded for comparisons in the element's type.
        clock, replayed: the words of a clock, and whether its gate decides: see `closed`.
        channels: of columns, in units of VECTOR.
        channel_stride: in slots; of columns VECTOR channels are one slot.
        slots, per_stretch: of a channel, and of a stretch.
        pieces: channels, or tiles of channels: a program each for every stretch.
        n1 to n3, s0 to s3: sizes and strides of the slots' DIMS dims, outermost first.
        MODE: which thresholds there are: "plain" none but zero, "upper" high, "all".
        UNROLL: tiles whose loads are in flight together, and that a lane adds up in float32.
        AGAIN: LANES of the tiles of a second reading.
        INDEX: the type in which slots are divided.
    """
    if closed(clock, replayed):
        return
    piece = (tl.program_id(0) % pieces).to(tl.int64)
    stretch = (tl.program_id(0) // pieces).to(tl.int64)
    across = tl.arange(0, WIDTH)
    if COLUMNS:
        channel = piece * WIDTH + across
        mine = channel < channels * VECTOR
        base = piece * (WIDTH // VECTOR)
        in_tile = mine[None, :]
    else:
        channel = piece
        mine = piece < pieces
        base = piece * channel_stride
        in_tile = (across >= 0)[None, :]

    # The pivot: the running mean, or that of samples.
    n, mean, _m2 = running_moments(state, row, channel, mine)
    pivot = pivot_of(mean, DTYPE)
    if least(spread(n, COLUMNS) + tl.zeros((1, WIDTH), tl.int64), False) == 0:
        # Golden-ratio steps: even ones would meet the same column of every image.
        turn = tl.arange(0, SAMPLES)
        share = ((turn * 40503 + 32768) & 0xFFFF).to(tl.float64) / 65536.0
        at = (share * slots.to(tl.float64)).to(tl.int64)
        where = base + offset_of(at, n1, n2, n3, s0, s1, s2, s3, DIMS, INDEX)
        sampled = (turn < slots)[:, None] & in_tile
        sample = tl.load(x + (where[:, None] * VECTOR + across[None, :]), mask=sampled, other=0)
        pivot = tl.where(n == 0, first_pivot(sample, sampled, DTYPE, COLUMNS), pivot)
    REAL: tl.constexpr = tl.float64 if DTYPE == "float64" else tl.float32

    begin = stretch * per_stretch
    end = tl.minimum(begin + per_stretch, slots)
    near = spread(pivot, COLUMNS)
    tol = tl.load(thresholds).to(REAL)
    at_low = tl.load(thresholds + 1).to(REAL)
    at_high = tl.load(thresholds + 2).to(REAL)
    total = tl.zeros((LANES, WIDTH), tl.float64)
    total_sq = tl.zeros((LANES, WIDTH), tl.float64)
    low = tl.full((LANES, WIDTH), float("inf"), REAL)
    high = tl.full((LANES, WIDTH), float("-inf"), REAL)
    marks = tl.zeros((LANES, WIDTH), tl.int32)

    slot = begin + tl.arange(0, LANES)
    offset = base + offset_of(slot, n1, n2, n3, s0, s1, s2, s3, DIMS, INDEX)
    # A step over a tile: so many runs and places of a run on; beyond a run's end, one run further.
    places = n1.to(tl.int32)
    place = (slot % n1).to(tl.int32)
    step = (LANES // n1) * s0 + (LANES % n1) * s1
    step_places = (LANES % n1).to(tl.int32)
    groups = ((end - begin) // (LANES * UNROLL)).to(tl.int32)
    for _ in range(0, groups):
        sum = tl.zeros((LANES, WIDTH), REAL)
        sum_sq = tl.zeros((LANES, WIDTH), REAL)
        for _unrolled in tl.static_range(0, UNROLL):
            raw = load_tile(x, offset, across, in_tile, VECTOR, COLUMNS)
            v = number(raw, DTYPE)
            sum, sum_sq, low, high, marks = take(
                v, near, sum, sum_sq, low, high, marks, tol, at_low, at_high, MODE
            )
            if DIMS == 1:
                offset += LANES * s0
            elif DIMS == 2:
                place += step_places
                beyond = place >= places
                place = tl.where(beyond, place - places, place)
                offset += tl.where(beyond, step + s0 - n1 * s1, step)
            else:
                slot += LANES
                offset = base + offset_of(slot, n1, n2, n3, s0, s1, s2, s3, DIMS, INDEX)
        total += sum.to(tl.float64)
        total_sq += sum_sq.to(tl.float64)
    # What is left: lanes beyond the end keep what they have.
    sum = tl.zeros((LANES, WIDTH), REAL)
    sum_sq = tl.zeros((LANES, WIDTH), REAL)
    slot = begin + groups.to(tl.int64) * (LANES * UNROLL) + tl.arange(0, LANES)
    left = end - begin - groups.to(tl.int64) * (LANES * UNROLL)
    for _ in range(0, tl.cdiv(left, LANES).to(tl.int32)):
        present = (slot < end)[:, None] & in_tile
        offset = base + offset_of(slot, n1, n2, n3, s0, s1, s2, s3, DIMS, INDEX)
        raw = tl.load(x + (offset[:, None] * VECTOR + across[None, :]), mask=present, other=0)
        v = number(raw, DTYPE)
        sum_, sum_sq_, low_, high_, marks_ = take(
            v, near, sum, sum_sq, low, high, marks, tol, at_low, at_high, MODE
        )
        sum = tl.where(present, sum_, sum)
        sum_sq = tl.where(present, sum_sq_, sum_sq)
        low = tl.where(present, low_, low)
        high = tl.where(present, high_, high)
        marks = tl.where(present, marks_, marks)
        slot += LANES

    total += sum.to(tl.float64)
    total_sq += sum_sq.to(tl.float64)

    zeros_, sat_low_, sat_high_ = counts(marks)
    zeros = over(zeros_, COLUMNS).to(tl.int64)
    sat_low = over(sat_low_, COLUMNS).to(tl.int64)
    sat_high = over(sat_high_, COLUMNS).to(tl.int64)
    nan = zeros * 0
    pos_inf = nan
    neg_inf = nan
    finite = total_sq < float("inf")  # else all of the stretch is read again, and these are dropped
    of_sum = over(tl.where(finite, total, 0.0), COLUMNS)
    of_sum_sq = over(tl.where(finite, total_sq, 0.0), COLUMNS)
    of_low = least(low, COLUMNS).to(tl.float64)
    of_high = -(least(-high, COLUMNS).to(tl.float64))
    if least(finite.to(tl.int32), False) == 0:
        (nan, pos_inf, neg_inf, zeros, sat_low, sat_high, of_sum, of_sum_sq, of_low, of_high) = (
            measure_exactly(
                x,
                base,
                across,
                in_tile,
                begin,
                end,
                pivot.to(tl.float64),
                1.0,
                thresholds,
                n1,
                n2,
                n3,
                s0,
                s1,
                s2,
                s3,
                DTYPE,
                COLUMNS,
                VECTOR,
                WIDTH,
                AGAIN,
                DIMS,
                INDEX,
            )
        )
    p = parts + stretch * PART_WORDS * part_row + channel
    tl.store(p + PART_NAN * part_row, nan, mask=mine)
    tl.store(p + PART_POS_INF * part_row, pos_inf, mask=mine)
    tl.store(p + PART_NEG_INF * part_row, neg_inf, mask=mine)
    tl.store(p + PART_ZEROS * part_row, zeros, mask=mine)
    tl.store(p + PART_SAT_LOW * part_row, sat_low, mask=mine)
    tl.store(p + PART_SAT_HIGH * part_row, sat_high, mask=mine)
    tl.store(p + PART_SUM * part_row, of_sum.to(tl.int64, bitcast=True), mask=mine)
    tl.store(p + PART_SUM_SQ * part_row, of_sum_sq.to(tl.int64, bitcast=True), mask=mine)
    tl.store(p + PART_MIN * part_row, of_low.to(tl.int64, bitcast=True), mask=mine)
    tl.store(p + PART_MAX * part_row, of_high.to(tl.int64, bitcast=True), mask=mine)
    tl.store(p + PIVOT * part_row, pivot.to(tl.float64).to(tl.int64, bitcast=True), mask=mine)
