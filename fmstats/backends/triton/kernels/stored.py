"""These functions store what is known of channels, and when they first met what is not finite."""

from __future__ import annotations

import triton
import triton.language as tl

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
def store_state(
    s, row, count, nan, pos_inf, neg_inf, zeros, sat_low, sat_high, mean, m2, low, high, inside
):
    """Store the fields of a channel, whose first word is at `s`; of several, those `inside`."""
    tl.store(s + COUNT * row, count, mask=inside)
    tl.store(s + NAN * row, nan, mask=inside)
    tl.store(s + POS_INF * row, pos_inf, mask=inside)
    tl.store(s + NEG_INF * row, neg_inf, mask=inside)
    tl.store(s + ZEROS * row, zeros, mask=inside)
    tl.store(s + SAT_LOW * row, sat_low, mask=inside)
    tl.store(s + SAT_HIGH * row, sat_high, mask=inside)
    tl.store(s + MEAN * row, mean.to(tl.int64, bitcast=True), mask=inside)
    tl.store(s + M2 * row, m2.to(tl.int64, bitcast=True), mask=inside)
    tl.store(s + MIN * row, low.to(tl.int64, bitcast=True), mask=inside)
    tl.store(s + MAX * row, high.to(tl.int64, bitcast=True), mask=inside)


@triton.jit
def note_first(first, now, non_finite):
    """Store the time of `now` at `first`, where it is earlier and an element was not finite."""
    noted = tl.load(first, mask=non_finite, other=0)
    tl.store(first, tl.minimum(noted, tl.load(now)), mask=non_finite)
