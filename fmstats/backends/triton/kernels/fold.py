"""The second kernel adds a channel's parts up in their order, and merges them into its state.

A channel whose sums cancel or underflow in float32 is measured again, in float64.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fmstats.backends.triton.kernels.before import closed, running_moments
from fmstats.backends.triton.kernels.formulas import (
    finite_count,
    merge,
    moments,
    read_again,
    too_coarse,
)
from fmstats.backends.triton.kernels.parts import part_reals, part_words
from fmstats.backends.triton.kernels.requested_fold import (
    add_powers,
    merge_requested,
    powers_again,
)
from fmstats.backends.triton.kernels.stored import note_first, store_state
from fmstats.backends.triton.kernels.walk import measure_exactly
from fmstats.backends.triton.kernels.words import (
    ALARM,
    COUNT,
    COUNTED,
    FIRST_PASS,
    FIRST_STEP,
    MAX,
    MIN,
    NAN,
    NEG_INF,
    NOW_PASS,
    NOW_STEP,
    PART_COUNT,
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
    POS_INF,
    SAT_HIGH,
    SAT_LOW,
    WORDS_OF_CHANNEL,
    ZEROS,
)


@triton.jit
def fold(
    x,
    state,
    parts,
    thresholds,
    clock,
    replayed,
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
    end,
    DTYPE: tl.constexpr,
    LANES: tl.constexpr,
    NUMBER_DIMS: tl.constexpr,
    ABS: tl.constexpr,
    KURTOSIS: tl.constexpr,
):
    """Merge the parts of a channel into its state, or measure it again if they are too coarse.

    Args are as of `measure`, but that distances are in elements and there are always four dims. A
    group's channels are merged by programs of their own. Where more is requested than is always
    measured, the state has `end` words with its histograms.
    """
    if closed(clock, replayed):
        return
    channel = tl.program_id(0).to(tl.int64)
    if replayed == COUNTED:
        # The word behind those of a state.
        if end is None:
            tensors = state + WORDS_OF_CHANNEL * row
        else:
            tensors = state + end
        tl.store(tensors, tl.load(tensors) + 1, mask=channel == 0)
    parts += channel
    in_tensor = channel
    group = 1
    WORDS: tl.constexpr = PART_WORDS + 1 if NUMBER_DIMS > 0 else PART_WORDS
    if NUMBER_DIMS > 0:
        in_tensor = channel % (part_row // groups)
        group = channel // (part_row // groups) + 1
        counted = tl.zeros((LANES,), tl.int64)
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
        if NUMBER_DIMS > 0:
            counted += part_words(parts, PART_COUNT, part_row, at, stretches, WORDS)
        nan += part_words(parts, PART_NAN, part_row, at, stretches, WORDS)
        pos_inf += part_words(parts, PART_POS_INF, part_row, at, stretches, WORDS)
        neg_inf += part_words(parts, PART_NEG_INF, part_row, at, stretches, WORDS)
        zeros += part_words(parts, PART_ZEROS, part_row, at, stretches, WORDS)
        sat_low += part_words(parts, PART_SAT_LOW, part_row, at, stretches, WORDS)
        sat_high += part_words(parts, PART_SAT_HIGH, part_row, at, stretches, WORDS)
        sum += part_reals(parts, PART_SUM, part_row, at, stretches, WORDS)
        sum_sq += part_reals(parts, PART_SUM_SQ, part_row, at, stretches, WORDS)
        part_low = part_reals(parts, PART_MIN, part_row, at, stretches, WORDS)
        part_high = part_reals(parts, PART_MAX, part_row, at, stretches, WORDS)
        low = tl.where((at < stretches) & (part_low < low), part_low, low)
        high = tl.where((at < stretches) & (part_high > high), part_high, high)
        at += LANES
    count = positions
    if NUMBER_DIMS > 0:
        count = tl.sum(counted, axis=0)
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
    pivot = tl.load(parts + PIVOT * part_row).to(tl.float64, bitcast=True)

    s = state + channel
    before, before_mean, before_m2 = running_moments(state, row, channel, channel >= 0)
    n = finite_count(count, nan, pos_inf, neg_inf)
    mean, m2, low, high = moments(n, sum, sum_sq, low, high, pivot, 1.0)
    if DTYPE == "float64":
        smallest = 0.0
    else:
        smallest = 1.1754943508222875e-38  # 2^-126: a square below it has lost bits
    if ABS or KURTOSIS:
        about = pivot
        sum_abs, d1, d2, d3, d4 = add_powers(
            powers + channel, part_row, stretches, LANES, ABS, KURTOSIS
        )
    if too_coarse(before, before_mean, n, mean, m2, sum_sq, low, high, smallest):
        if KURTOSIS:
            about = mean
            d1, d2, d3, d4 = powers_again(
                x,
                in_tensor * channel_stride,
                positions,
                about,
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
                LANES,
                NUMBER_DIMS,
            )
        pivot, unit = read_again(mean, sum_sq)
        nan, pos_inf, neg_inf, zeros, sat_low, sat_high, sum, sum_sq, low, high = measure_exactly(
            x,
            in_tensor * channel_stride,
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
            False,
            1,
            1,
            LANES,
            4,
            tl.int64,
            False,
            NUMBER_DIMS,
        )
        mean, m2, low, high = moments(n, sum, sum_sq, low, high, pivot, unit)
    if ABS or KURTOSIS:
        merge_requested(
            s,
            row,
            before,
            before_mean,
            before_m2,
            n,
            low == high,
            mean,
            about,
            sum_abs,
            d1,
            d2,
            d3,
            d4,
            ABS,
            KURTOSIS,
        )
    non_finite = nan + pos_inf + neg_inf > 0
    note_first(s + FIRST_PASS * row, clock + NOW_PASS, non_finite)
    note_first(s + FIRST_STEP * row, clock + NOW_STEP, non_finite)
    tl.atomic_xchg(clock + ALARM, 1, mask=non_finite, sem="relaxed")  # others may set it, too
    count, nan, pos_inf, neg_inf, zeros, sat_low, sat_high, mean, m2, low, high = merge(
        tl.load(s + COUNT * row),
        tl.load(s + NAN * row),
        tl.load(s + POS_INF * row),
        tl.load(s + NEG_INF * row),
        tl.load(s + ZEROS * row),
        tl.load(s + SAT_LOW * row),
        tl.load(s + SAT_HIGH * row),
        before_mean,
        before_m2,
        tl.load(s + MIN * row).to(tl.float64, bitcast=True),
        tl.load(s + MAX * row).to(tl.float64, bitcast=True),
        count,
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
        s, row, count, nan, pos_inf, neg_inf, zeros, sat_low, sat_high, mean, m2, low, high, True
    )
