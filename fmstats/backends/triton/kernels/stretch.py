"""This function takes all elements of a stretch, as fast as they can be loaded."""

from __future__ import annotations

import triton
import triton.language as tl

from fmstats.backends.triton.kernels.lanes import number, take
from fmstats.backends.triton.kernels.walk import load_tile, offset_of


@triton.jit
def take_all(
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
    COLUMNS: tl.constexpr,
    DTYPE: tl.constexpr,
    MODE: tl.constexpr,
    VECTOR: tl.constexpr,
    WIDTH: tl.constexpr,
    LANES: tl.constexpr,
    UNROLL: tl.constexpr,
    DIMS: tl.constexpr,
    INDEX: tl.constexpr,
):
    """Take the slots from `begin` to `end`; return (sum, sum_sq, low, high, marks) of the lanes."""
    REAL: tl.constexpr = tl.float64 if DTYPE == "float64" else tl.float32
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
    rounds = ((end - begin) // (LANES * UNROLL)).to(tl.int32)
    for _ in range(0, rounds):
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
    slot = begin + rounds.to(tl.int64) * (LANES * UNROLL) + tl.arange(0, LANES)
    left = end - begin - rounds.to(tl.int64) * (LANES * UNROLL)
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
    return total, total_sq, low, high, marks
