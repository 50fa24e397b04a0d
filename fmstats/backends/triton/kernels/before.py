"""These functions find what a launch knows before it reads: whether it measures, and its pivots."""

from __future__ import annotations

import triton
import triton.language as tl

from fmstats.backends.triton.kernels.formulas import at_least_one, finite_count, pivot_of
from fmstats.backends.triton.kernels.lanes import least, number, over, spread
from fmstats.backends.triton.kernels.walk import chosen, offset_of
from fmstats.backends.triton.kernels.words import (
    COUNT,
    ENABLED,
    M2,
    MEAN,
    NAN,
    NEG_INF,
    PHASE,
    POS_INF,
)

SAMPLES = tl.constexpr(128)  # that a first pivot is chosen from


@triton.jit
def running_moments(state, row, channel, mine):
    """Return (n, mean, m2) of the finite elements that a state has seen."""
    n = finite_count(
        tl.load(state + COUNT * row + channel, mask=mine, other=1),
        tl.load(state + NAN * row + channel, mask=mine, other=0),
        tl.load(state + POS_INF * row + channel, mask=mine, other=0),
        tl.load(state + NEG_INF * row + channel, mask=mine, other=0),
    )
    mean = tl.load(state + MEAN * row + channel, mask=mine, other=0).to(tl.float64, bitcast=True)
    m2 = tl.load(state + M2 * row + channel, mask=mine, other=0).to(tl.float64, bitcast=True)
    return n, mean, m2


@triton.jit
def first_pivot(sample, present, DTYPE: tl.constexpr, COLUMNS: tl.constexpr):
    """Return the pivot of channels without a running mean, from some of their elements."""
    x = number(sample, DTYPE).to(tl.float64)
    finite = present & (tl.abs(x) < float("inf"))
    x = tl.where(finite, x, 0.0)
    n = over(finite.to(tl.int64), COLUMNS)
    return pivot_of(over(x, COLUMNS) / at_least_one(n), DTYPE)


@triton.jit
def closed(clock, replayed):
    """Tell whether a launch measures nothing: one that a graph replays, while the gate is closed.

    `replayed` is `NOT`, `REPLAYED`, or `COUNTED` of the last launch of a tensor.
    """
    shut = False
    if replayed != 0:
        shut = (tl.load(clock + ENABLED) == 0) | (tl.load(clock + PHASE) != 0)
    return shut


@triton.jit
def pivot_for(
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
    DTYPE: tl.constexpr,
    COLUMNS: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDTH: tl.constexpr,
    DIMS: tl.constexpr,
    INDEX: tl.constexpr,
    BY_PLACE: tl.constexpr,
    NUMBER_DIMS: tl.constexpr,
):
    """Return what the sums of channels are made about: their running mean, or that of samples.

    Args are as of `measure`.
    """
    n, mean, _m2 = running_moments(state, row, of_state, mine)
    pivot = pivot_of(mean, DTYPE)
    if least(spread(n, COLUMNS) + tl.zeros((1, WIDTH), tl.int64), False) == 0:
        # Golden-ratio steps: even ones would meet the same column of every image.
        turn = tl.arange(0, SAMPLES)
        share = ((turn * 40503 + 32768) & 0xFFFF).to(tl.float64) / 65536.0
        at = (share * slots.to(tl.float64)).to(tl.int64)
        where = base + offset_of(at, n1, n2, n3, s0, s1, s2, s3, DIMS, INDEX)
        sampled = (turn < slots)[:, None] & in_tile
        if NUMBER_DIMS > 0:
            sampled &= chosen(
                numbers,
                group,
                at,
                across,
                (turn < slots)[:, None],
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
        sample = tl.load(x + (where[:, None] * VECTOR + across[None, :]), mask=sampled, other=0)
        pivot = tl.where(n == 0, first_pivot(sample, sampled, DTYPE, COLUMNS), pivot)
    return pivot
