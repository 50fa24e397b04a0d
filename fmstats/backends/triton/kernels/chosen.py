"""This function takes the elements of a stretch that are of one group, or what is requested of all.

Each position has a number, which is read beside it: its group, or 0. A program serves one group. It
reads the number of each position of its stretch once, and loads the slots in which one of them
counts; those that hold several groups are loaded for each. Where UNROLL tiles have nothing of the
group, they are passed over.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fmstats.backends.triton.kernels.lanes import least, number, take
from fmstats.backends.triton.kernels.requested import count_in_bins, histogram_of, take_powers
from fmstats.backends.triton.kernels.walk import chosen, offset_of


@triton.jit
def take_chosen(
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
    DTYPE: tl.constexpr,
    MODE: tl.constexpr,
    COLUMNS: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDTH: tl.constexpr,
    LANES: tl.constexpr,
    UNROLL: tl.constexpr,
    DIMS: tl.constexpr,
    INDEX: tl.constexpr,
    BY_PLACE: tl.constexpr,
    NUMBER_DIMS: tl.constexpr,
    ABS: tl.constexpr,
    KURTOSIS: tl.constexpr,
    SCOPE: tl.constexpr,
    RESOLUTION: tl.constexpr,
):
    """Take the slots from `begin` to `end`, as far as they count.

    Return what the lanes have of (sum, sum_sq, low, high, marks), how often each was chosen, and
    their (sum_abs, d1, d2, d3, d4), which are 0 where they are not requested. Histograms are
    counted in the bins of the state.
    """
    REAL: tl.constexpr = tl.float64 if DTYPE == "float64" else tl.float32
    tol = tl.load(thresholds).to(REAL)
    at_low = tl.load(thresholds + 1).to(REAL)
    at_high = tl.load(thresholds + 2).to(REAL)
    CHOICES: tl.constexpr = WIDTH if BY_PLACE else 1
    total = tl.zeros((LANES, WIDTH), tl.float64)
    total_sq = tl.zeros((LANES, WIDTH), tl.float64)
    low = tl.full((LANES, WIDTH), float("inf"), REAL)
    high = tl.full((LANES, WIDTH), float("-inf"), REAL)
    marks = tl.zeros((LANES, WIDTH), tl.int32)
    counted = tl.zeros((LANES, CHOICES), tl.int32)
    POWERS: tl.constexpr = WIDTH if ABS or KURTOSIS else 1
    sum_abs = tl.zeros((LANES, POWERS), tl.float64)
    d1 = tl.zeros((LANES, POWERS), tl.float64)
    d2 = tl.zeros((LANES, POWERS), tl.float64)
    d3 = tl.zeros((LANES, POWERS), tl.float64)
    d4 = tl.zeros((LANES, POWERS), tl.float64)
    if SCOPE != "none":
        histogram = histogram_of(bins, of_state, group, COLUMNS, SCOPE, RESOLUTION)
    slot = begin + tl.arange(0, LANES)
    for _ in range(0, tl.cdiv(end - begin, LANES * UNROLL).to(tl.int32)):
        # All numbers are asked for before any element, so that loads wait for one answer. Bit u of
        # a lane: whether it takes part in tile u.
        bits = tl.zeros((LANES, CHOICES), tl.int32)
        for u in tl.static_range(0, UNROLL):
            at = slot + u * LANES
            here = chosen(
                numbers,
                group,
                at,
                across,
                (at < end)[:, None],
                g1,
                g2,
                g3,
                h0,
                h1,
                h2,
                h3,
                VECTOR,
                INDEX,
                BY_PLACE,
                NUMBER_DIMS,
            )
            bits |= here.to(tl.int32) << u
        if least(-bits, False) < 0:
            sum = tl.zeros((LANES, WIDTH), REAL)
            sum_sq = tl.zeros((LANES, WIDTH), REAL)
            for u in tl.static_range(0, UNROLL):
                here = (bits >> u & 1) == 1
                counted += here.to(tl.int32)
                # One answer for a slot, so that it is loaded at once.
                wanted = (tl.max(bits >> u & 1, axis=1) == 1)[:, None] & in_tile
                at = slot + u * LANES
                offset = base + offset_of(at, n1, n2, n3, s0, s1, s2, s3, DIMS, INDEX)
                places = x + (offset[:, None] * VECTOR + across[None, :])
                v = number(tl.load(places, mask=wanted, other=0), DTYPE)
                sum_, sum_sq_, low_, high_, marks_ = take(
                    v, near, sum, sum_sq, low, high, marks, tol, at_low, at_high, MODE
                )
                sum = tl.where(here, sum_, sum)
                sum_sq = tl.where(here, sum_sq_, sum_sq)
                low = tl.where(here, low_, low)
                high = tl.where(here, high_, high)
                marks = tl.where(here, marks_, marks)
                if ABS or KURTOSIS:
                    sum_abs, d1, d2, d3, d4 = take_powers(
                        v, here, near, sum_abs, d1, d2, d3, d4, ABS, KURTOSIS
                    )
                if SCOPE != "none":
                    count_in_bins(v, here, histogram, RESOLUTION)
            total += sum.to(tl.float64)
            total_sq += sum_sq.to(tl.float64)
        slot += LANES * UNROLL
    return (
        total,
        total_sq,
        low,
        high,
        marks,
        counted,
        sum_abs,
        d1,
        d2,
        d3,
        d4,
    )
