"""The first kernel measures a stretch of channels, each element once, into parts.

A program walks over slots, all of one channel (rows, strided) or of WIDTH neighbouring channels
(columns). A slot is VECTOR elements side by side, which a thread loads at once; distances are in
slots, so that the compiler sees where vectors begin. Each lane adds up UNROLL elements in float32,
no more than csrc/reread.h bounds the error of, about a pivot that every program of a channel
finds alike; above, sums are float64. A stretch whose squares are not finite is read again in
float64.

Nothing depends on time: programs write parts of their own, and nothing is cleared beforehand. The
only atomics are those of bins, where histograms are requested.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fmstats.backends.triton.kernels.before import closed, pivot_for
from fmstats.backends.triton.kernels.chosen import take_chosen
from fmstats.backends.triton.kernels.lanes import counts, least, over, spread
from fmstats.backends.triton.kernels.parts import store_part
from fmstats.backends.triton.kernels.requested import POWERS, store_powers
from fmstats.backends.triton.kernels.stretch import take_all
from fmstats.backends.triton.kernels.walk import measure_exactly
from fmstats.backends.triton.kernels.words import PART_COUNT, PART_WORDS


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
    numbers,
    groups,
    g1,
    g2,
    g3,
    h0,
    h1,
    h2,
    h3,
    powers,
    bins,
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
    BY_PLACE: tl.constexpr,
    NUMBER_DIMS: tl.constexpr,
    ABS: tl.constexpr,
    KURTOSIS: tl.constexpr,
    SCOPE: tl.constexpr,
    RESOLUTION: tl.constexpr,
):
    """Measure a stretch of one channel, or of WIDTH of them, into a part.

    The package's docstring tells what the arguments are.
    """
    if closed(clock, replayed):
        return
    program = tl.program_id(0)
    group = 1
    if NUMBER_DIMS > 0:  # groups follow one another: what they share is still in the cache
        group = program % groups + 1
        program = program // groups
    piece = (program % pieces).to(tl.int64)
    stretch = (program // pieces).to(tl.int64)
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
    of_state = channel
    if NUMBER_DIMS > 0:
        of_state += (group - 1) * (part_row // groups)

    pivot = pivot_for(
        state,
        row,
        of_state,
        mine,
        x,
        base,
        across,
        in_tile,
        slots,
        n1,
        n2,
        n3,
        s0,
        s1,
        s2,
        s3,
        numbers,
        group,
        g1,
        g2,
        g3,
        h0,
        h1,
        h2,
        h3,
        DTYPE,
        COLUMNS,
        VECTOR,
        WIDTH,
        DIMS,
        INDEX,
        BY_PLACE,
        NUMBER_DIMS,
    )

    begin = stretch * per_stretch
    end = tl.minimum(begin + per_stretch, slots)
    near = spread(pivot, COLUMNS)
    SUMS: tl.constexpr = ABS or KURTOSIS
    REQUESTED: tl.constexpr = SUMS or SCOPE != "none"
    if NUMBER_DIMS > 0 or REQUESTED:
        total, total_sq, low, high, marks, counted, sum_abs, d1, d2, d3, d4 = take_chosen(
            x,
            base,
            across,
            in_tile,
            begin,
            end,
            near,
            thresholds,
            n1,
            n2,
            n3,
            s0,
            s1,
            s2,
            s3,
            numbers,
            group,
            g1,
            g2,
            g3,
            h0,
            h1,
            h2,
            h3,
            bins,
            of_state,
            DTYPE,
            MODE,
            COLUMNS,
            VECTOR,
            WIDTH,
            LANES,
            UNROLL,
            DIMS,
            INDEX,
            BY_PLACE,
            NUMBER_DIMS,
            ABS,
            KURTOSIS,
            SCOPE,
            RESOLUTION,
        )
    else:
        total, total_sq, low, high, marks = take_all(
            x,
            base,
            across,
            in_tile,
            begin,
            end,
            near,
            thresholds,
            n1,
            n2,
            n3,
            s0,
            s1,
            s2,
            s3,
            COLUMNS,
            DTYPE,
            MODE,
            VECTOR,
            WIDTH,
            LANES,
            UNROLL,
            DIMS,
            INDEX,
        )
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
                numbers,
                group,
                g1,
                g2,
                g3,
                h0,
                h1,
                h2,
                h3,
                DTYPE,
                COLUMNS,
                VECTOR,
                WIDTH,
                AGAIN,
                DIMS,
                INDEX,
                BY_PLACE,
                NUMBER_DIMS,
            )
        )
    WORDS: tl.constexpr = PART_WORDS + 1 if NUMBER_DIMS > 0 else PART_WORDS
    p = parts + stretch * WORDS * part_row + of_state
    store_part(
        p,
        part_row,
        nan,
        pos_inf,
        neg_inf,
        zeros,
        sat_low,
        sat_high,
        of_sum,
        of_sum_sq,
        of_low,
        of_high,
        pivot,
        mine,
    )
    if NUMBER_DIMS > 0:
        # A number of a slot of rows is that of all its places.
        EACH: tl.constexpr = 1 if COLUMNS or BY_PLACE else VECTOR
        count = over(counted, False).to(tl.int64) * EACH
        tl.store(p + PART_COUNT * part_row, count + nan * 0, mask=mine)
    if SUMS:
        p = powers + stretch * POWERS * part_row + of_state
        store_powers(p, part_row, sum_abs, d1, d2, d3, d4, mine, COLUMNS, ABS, KURTOSIS)
