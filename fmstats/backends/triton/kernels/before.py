"""These functions find what a launch knows before it reads: whether it measures, and its pivots."""

from __future__ import annotations

import triton
import triton.language as tl

from fmstats.backends.triton.kernels.formulas import at_least_one, finite_count, pivot_of
from fmstats.backends.triton.kernels.lanes import number, over
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
