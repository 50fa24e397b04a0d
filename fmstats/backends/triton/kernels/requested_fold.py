"""These functions merge what is requested of a channel into its state."""

from __future__ import annotations

import triton
import triton.language as tl

from fmstats.backends.triton.kernels.formulas import about_mean, at_least_one, merge_moments
from fmstats.backends.triton.kernels.lanes import number, over
from fmstats.backends.triton.kernels.requested import (
    FIRST,
    FOURTH,
    MAGNITUDES,
    POWERS,
    SECOND,
    THIRD,
    take_powers,
)
from fmstats.backends.triton.kernels.walk import chosen, offset_of
from fmstats.backends.triton.kernels.words import WORDS_OF_CHANNEL


@triton.jit
def power_sum(powers, field, part_row, stretch, stretches):
    """Load a power sum of some stretches of a channel, 0 beyond the last one."""
    p = powers + (stretch * POWERS + field) * part_row
    return tl.load(p, mask=stretch < stretches, other=0.0)


@triton.jit
def add_powers(
    powers, part_row, stretches, LANES: tl.constexpr, ABS: tl.constexpr, KURTOSIS: tl.constexpr
):
    """Add the power sums of a channel's stretches up in their order."""
    sum_abs = tl.zeros((LANES,), tl.float64)
    d1 = tl.zeros((LANES,), tl.float64)
    d2 = tl.zeros((LANES,), tl.float64)
    d3 = tl.zeros((LANES,), tl.float64)
    d4 = tl.zeros((LANES,), tl.float64)
    at = tl.arange(0, LANES).to(tl.int64)
    for _ in range(0, tl.cdiv(stretches, LANES).to(tl.int32)):
        if ABS:
            sum_abs += power_sum(powers, MAGNITUDES, part_row, at, stretches)
        if KURTOSIS:
            d1 += power_sum(powers, FIRST, part_row, at, stretches)
            d2 += power_sum(powers, SECOND, part_row, at, stretches)
            d3 += power_sum(powers, THIRD, part_row, at, stretches)
            d4 += power_sum(powers, FOURTH, part_row, at, stretches)
        at += LANES
    return (
        tl.sum(sum_abs, axis=0),
        tl.sum(d1, axis=0),
        tl.sum(d2, axis=0),
        tl.sum(d3, axis=0),
        tl.sum(d4, axis=0),
    )


@triton.jit
def powers_again(
    x,
    base,
    positions,
    pivot,
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
    LANES: tl.constexpr,
    NUMBER_DIMS: tl.constexpr,
):
    """Return the sums of the first to fourth powers of x - pivot, of a channel as `fold` has it."""
    sum_abs = tl.zeros((LANES, 1), tl.float64)  # stays so
    d1 = tl.zeros((LANES, 1), tl.float64)
    d2 = tl.zeros((LANES, 1), tl.float64)
    d3 = tl.zeros((LANES, 1), tl.float64)
    d4 = tl.zeros((LANES, 1), tl.float64)
    position = positions * 0 + tl.arange(0, LANES)
    for _ in range(0, tl.cdiv(positions, LANES).to(tl.int32)):
        within = (position < positions)[:, None]
        here = chosen(
            numbers,
            group,
            position,
            tl.arange(0, 1),
            within,
            g1,
            g2,
            g3,
            h0,
            h1,
            h2,
            h3,
            1,
            tl.int64,
            False,
            NUMBER_DIMS,
        )
        offset = base + offset_of(position, n1, n2, n3, s0, s1, s2, s3, 4, tl.int64)
        v = number(tl.load(x + offset[:, None], mask=here, other=0), DTYPE)
        sum_abs, d1, d2, d3, d4 = take_powers(v, here, pivot, sum_abs, d1, d2, d3, d4, False, True)
        position += LANES
    return over(d1, False), over(d2, False), over(d3, False), over(d4, False)


@triton.jit
def merge_requested(
    s,
    row,
    na,
    mean_a,
    m2_a,
    nb,
    constant,
    mean_b,
    pivot,
    sum_abs,
    d1,
    d2,
    d3,
    d4,
    ABS: tl.constexpr,
    KURTOSIS: tl.constexpr,
):
    """Merge the power sums of a channel into its state, whose first word is at `s`.

    Args:
        na, mean_a, m2_a: of the state without them.
        nb: finite elements of the sums.
        constant: whether they are all one number, which is `mean_b`.
        pivot: what the sums are about.
    """
    # As `Measures.requested` has them, behind the words that every state has.
    SUM_ABS: tl.constexpr = WORDS_OF_CHANNEL
    M3: tl.constexpr = WORDS_OF_CHANNEL + 1 if ABS else WORDS_OF_CHANNEL
    if ABS:
        at_abs = s.to(tl.pointer_type(tl.float64)) + SUM_ABS * row
        tl.store(at_abs, tl.load(at_abs) + sum_abs)
    if KURTOSIS:
        at_m3 = s.to(tl.pointer_type(tl.float64)) + M3 * row
        m2, m3, m4 = about_mean(nb, d1, d2, d3, d4)
        m2 = tl.where(constant, 0.0, m2)
        m3 = tl.where(constant, 0.0, m3)
        m4 = tl.where(constant, 0.0, m4)
        mean = tl.where(constant, mean_b, pivot + d1 / at_least_one(nb))
        m3, m4 = merge_moments(
            na, mean_a, m2_a, tl.load(at_m3), tl.load(at_m3 + row), nb, mean, m2, m3, m4
        )
        tl.store(at_m3, m3)
        tl.store(at_m3 + row, m4)
