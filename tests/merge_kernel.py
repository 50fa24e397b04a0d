"""A Triton kernel around the one merge of the triton backend, for tests."""

from __future__ import annotations

import triton
import triton.language as tl

from fmstats.backends.triton.kernels.formulas import merge


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
        word(a, 0, row),
        word(a, 1, row),
        word(a, 2, row),
        word(a, 3, row),
        word(a, 4, row),
        word(a, 5, row),
        word(a, 6, row),
        real(a, 7, row),
        real(a, 8, row),
        real(a, 9, row),
        real(a, 10, row),
        word(b, 0, row),
        word(b, 1, row),
        word(b, 2, row),
        word(b, 3, row),
        word(b, 4, row),
        word(b, 5, row),
        word(b, 6, row),
        real(b, 7, row),
        real(b, 8, row),
        real(b, 9, row),
        real(b, 10, row),
    )
    to = out + tl.program_id(0)
    tl.store(to, count)
    tl.store(to + row, nan)
    tl.store(to + 2 * row, pos_inf)
    tl.store(to + 3 * row, neg_inf)
    tl.store(to + 4 * row, zeros)
    tl.store(to + 5 * row, sat_low)
    tl.store(to + 6 * row, sat_high)
    tl.store(to + 7 * row, mean.to(tl.int64, bitcast=True))
    tl.store(to + 8 * row, m2.to(tl.int64, bitcast=True))
    tl.store(to + 9 * row, low.to(tl.int64, bitcast=True))
    tl.store(to + 10 * row, high.to(tl.int64, bitcast=True))
