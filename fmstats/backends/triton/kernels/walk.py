"""These functions find the elements of channels, and measure them plainly in float64."""

from __future__ import annotations

import triton
import triton.language as tl

from fmstats.backends.triton.kernels.lanes import (
    add_exactly,
    least,
    number,
    over,
    spread,
    take_counts,
)


@triton.jit
def offset_of(slot, n1, n2, n3, s0, s1, s2, s3, DIMS: tl.constexpr, INDEX: tl.constexpr):
    """Return where a slot lies, from the first one of its channel, by divisions of INDEX."""
    at = slot.to(INDEX)
    offset = slot.to(tl.int64) * 0
    if DIMS > 3:
        offset += (at % n3.to(INDEX)).to(tl.int64) * s3
        at = at // n3.to(INDEX)
    if DIMS > 2:
        offset += (at % n2.to(INDEX)).to(tl.int64) * s2
        at = at // n2.to(INDEX)
    if DIMS > 1:
        offset += (at % n1.to(INDEX)).to(tl.int64) * s1
        at = at // n1.to(INDEX)
    return offset + at.to(tl.int64) * s0


@triton.jit
def load_tile(x, offset, across, in_tile, VECTOR: tl.constexpr, COLUMNS: tl.constexpr):
    """Load the elements of a tile, zeros beyond the last channel."""
    places = x + (offset[:, None] * VECTOR + across[None, :])
    if COLUMNS:
        return tl.load(places, mask=in_tile, other=0)
    else:
        return tl.load(places)


@triton.jit
def chosen(
    numbers,
    group,
    slot,
    across,
    within,
    g1,
    g2,
    g3,
    h0,
    h1,
    h2,
    h3,
    VECTOR: tl.constexpr,
    INDEX: tl.constexpr,
    BY_PLACE: tl.constexpr,
    NUMBER_DIMS: tl.constexpr,
):
    """Tell which of the slots `within` a stretch are of a group, or which of their places.

    Args:
        numbers, g1 to g3, h0 to h3: the group of each slot, by NUMBER_DIMS dims, outermost first.
        BY_PLACE: the numbers are of places, and so are the dims.
        NUMBER_DIMS: 0 where all are chosen.
    """
    if NUMBER_DIMS == 0:
        return within
    else:
        if BY_PLACE:
            slot = slot[:, None] * VECTOR + across[None, :]
        else:
            slot = slot[:, None]
        where = offset_of(slot, g1, g2, g3, h0, h1, h2, h3, NUMBER_DIMS, INDEX)
        return within & (tl.load(numbers + where, mask=within, other=0) == group)


@triton.jit
def measure_exactly(
    x,
    base,
    across,
    in_tile,
    begin,
    end,
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
    DTYPE: tl.constexpr,
    COLUMNS: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDTH: tl.constexpr,
    LANES: tl.constexpr,
    DIMS: tl.constexpr,
    INDEX: tl.constexpr,
    BY_PLACE: tl.constexpr,
    NUMBER_DIMS: tl.constexpr,
):
    """Return the part of the slots from `begin` to `end`, in float64, from x * unit - pivot.

    Where the numbers of groups have dims, it is of what counts.

    What the roundings of a sum leave over is added up as well, and joined at the end: the error
    does not grow with the number of terms.
    """
    tol = tl.load(thresholds)
    at_low = tl.load(thresholds + 1)
    at_high = tl.load(thresholds + 2)
    nan = tl.zeros((LANES, WIDTH), tl.int64)
    pos_inf = tl.zeros((LANES, WIDTH), tl.int64)
    neg_inf = tl.zeros((LANES, WIDTH), tl.int64)
    zeros = tl.zeros((LANES, WIDTH), tl.int64)
    sat_low = tl.zeros((LANES, WIDTH), tl.int64)
    sat_high = tl.zeros((LANES, WIDTH), tl.int64)
    sum = tl.zeros((LANES, WIDTH), tl.float64)
    sum_sq = tl.zeros((LANES, WIDTH), tl.float64)
    rest = tl.zeros((LANES, WIDTH), tl.float64)
    rest_sq = tl.zeros((LANES, WIDTH), tl.float64)
    low = tl.full((LANES, WIDTH), float("inf"), tl.float64)
    high = tl.full((LANES, WIDTH), float("-inf"), tl.float64)
    slot = begin + tl.arange(0, LANES)
    for _ in range(0, tl.cdiv(end - begin, LANES).to(tl.int32)):
        present = (slot < end)[:, None] & in_tile
        if NUMBER_DIMS > 0:
            present &= chosen(
                numbers,
                group,
                slot,
                across,
                (slot < end)[:, None],
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
        offset = base + offset_of(slot, n1, n2, n3, s0, s1, s2, s3, DIMS, INDEX)
        raw = tl.load(x + (offset[:, None] * VECTOR + across[None, :]), mask=present, other=0)
        x_ = number(raw, DTYPE).to(tl.float64)
        nan, pos_inf, neg_inf, zeros, sat_low, sat_high, low, high = take_counts(
            x_,
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
        )
        finite = present & (tl.abs(x_) < float("inf"))
        d = tl.where(finite, x_ * unit - spread(pivot, COLUMNS), 0.0)
        sum, rest = add_exactly(d, sum, rest)
        sum_sq, rest_sq = add_exactly(d * d, sum_sq, rest_sq)
        slot += LANES
    return (
        over(nan, COLUMNS),
        over(pos_inf, COLUMNS),
        over(neg_inf, COLUMNS),
        over(zeros, COLUMNS),
        over(sat_low, COLUMNS),
        over(sat_high, COLUMNS),
        over(sum + rest, COLUMNS),
        over(sum_sq + rest_sq, COLUMNS),
        least(low, COLUMNS),
        -least(-high, COLUMNS),
    )
