"""A Triton kernel around the one merge of the triton backend, for tests."""

from __future__ import annotations

import triton
import triton.language as tl

from fmstats.backends.triton.kernels.formulas import merge
from fmstats.backends.triton.kernels.stored import store_state
from fmstats.backends.triton.kernels.words import (
    COUNT,
    M2,
    MAX,
    MEAN,
    MIN,
    NAN,
    NEG_INF,
    POS_INF,
    SAT_HIGH,
    SAT_LOW,
    ZEROS,
)


@triton.jit
def word(words, field, row):
    return tl.load(words + field * row + tl.program_id(0))


@triton.jit
def real(words, field, row):
    return word(words, field, row).to(tl.float64, bitcast=True)


@triton.jit
def merge_states(a, b, out, row):
    """out = merge(a, b), words of states of `row` channels, a channel for each program."""
    count, nan, pos_inf, neg_inf, zeros, sat_low, sat_high, mean, m2, low, high = merge(
        word(a, COUNT, row),
        word(a, NAN, row),
        word(a, POS_INF, row),
        word(a, NEG_INF, row),
        word(a, ZEROS, row),
        word(a, SAT_LOW, row),
        word(a, SAT_HIGH, row),
        real(a, MEAN, row),
        real(a, M2, row),
        real(a, MIN, row),
        real(a, MAX, row),
        word(b, COUNT, row),
        word(b, NAN, row),
        word(b, POS_INF, row),
        word(b, NEG_INF, row),
        word(b, ZEROS, row),
        word(b, SAT_LOW, row),
        word(b, SAT_HIGH, row),
        real(b, MEAN, row),
        real(b, M2, row),
        real(b, MIN, row),
        real(b, MAX, row),
    )
    to = out + tl.program_id(0)
    store_state(
        to, row, count, nan, pos_inf, neg_inf, zeros, sat_low, sat_high, mean, m2, low, high, True
    )
