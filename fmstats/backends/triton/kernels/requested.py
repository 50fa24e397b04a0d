"""These functions take of elements what is requested beside what is always measured.

They are those of csrc/requested.h: powers of x - pivot are added up in float64 of each element, and
the bin of an element is made of its bits. Bins are counted where the state has them, by atomic
additions of integers, whose order does not show.
"""

from __future__ import annotations

import numpy as np
import triton
import triton.language as tl

from fmstats.backends.triton.kernels.lanes import over, spread
from fmstats.backends.triton.plan import POWER_SUMS
from fmstats.statistic.bins import Bins

# Rows of the power sums of a stretch. Where only one measure is asked for, some are not written.
MAGNITUDES, FIRST, SECOND, THIRD, FOURTH = map(tl.constexpr, range(POWER_SUMS))
POWERS = tl.constexpr(POWER_SUMS)
LOWEST_EXPONENT = tl.constexpr(Bins.LOWEST_EXPONENT)
OCTAVES = tl.constexpr(Bins.OCTAVES)
# The bits of the first magnitude of the last bin.
LARGEST_32 = tl.constexpr(int(np.float32(Bins.LARGEST).view(np.int32)))
LARGEST_64 = tl.constexpr(int(np.float64(Bins.LARGEST).view(np.int64)))


@triton.jit
def take_powers(
    v,
    here,
    near,
    sum_abs,
    d1,
    d2,
    d3,
    d4,
    ABS: tl.constexpr,
    KURTOSIS: tl.constexpr,
):
    """Add those elements to their lanes that are `here` and finite; `near` is their pivot."""
    x = v.to(tl.float64)
    finite = here & (tl.abs(x) < float("inf"))
    if ABS:
        sum_abs += tl.where(finite, tl.abs(x), 0.0)
    if KURTOSIS:
        d = tl.where(finite, x - near.to(tl.float64), 0.0)
        square = d * d
        d1 += d
        d2 += square
        d3 = tl.fma(square, d, d3)
        d4 = tl.fma(square, square, d4)
    return sum_abs, d1, d2, d3, d4


@triton.jit
def store_powers(
    p,
    part_row,
    sum_abs,
    d1,
    d2,
    d3,
    d4,
    mine,
    COLUMNS: tl.constexpr,
    ABS: tl.constexpr,
    KURTOSIS: tl.constexpr,
):
    """Join lanes and store the power sums of a stretch, whose first row is at `p`."""
    if ABS:
        tl.store(p + MAGNITUDES * part_row, over(sum_abs, COLUMNS), mask=mine)
    if KURTOSIS:
        tl.store(p + FIRST * part_row, over(d1, COLUMNS), mask=mine)
        tl.store(p + SECOND * part_row, over(d2, COLUMNS), mask=mine)
        tl.store(p + THIRD * part_row, over(d3, COLUMNS), mask=mine)
        tl.store(p + FOURTH * part_row, over(d4, COLUMNS), mask=mine)


@triton.jit
def bin_of(bits, MANTISSA: tl.constexpr, LARGEST: tl.constexpr, RESOLUTION: tl.constexpr):
    """Return the bin of numbers by their magnitudes' bits, without that of their sign: int32.

    Args:
        bits: of floats with so many bits of MANTISSA, whose sign is taken off.
        LARGEST: those of the first magnitude of the last bin.
    """
    BIAS: tl.constexpr = 127 if MANTISSA == 23 else 1023
    REGULAR: tl.constexpr = OCTAVES << RESOLUTION
    place = (bits >> (MANTISSA - RESOLUTION)).to(tl.int32) - (
        (BIAS + LOWEST_EXPONENT) << RESOLUTION
    )
    place = tl.minimum(tl.maximum(place, -1), REGULAR) + 1
    return tl.where(bits >= LARGEST, REGULAR + 1, place)


@triton.jit
def histogram_of(
    bins,
    of_state,
    group,
    COLUMNS: tl.constexpr,
    SCOPE: tl.constexpr,
    RESOLUTION: tl.constexpr,
):
    """Return where the histogram of each lane's channel is, or the one of all of its group."""
    WORDS: tl.constexpr = 2 * ((OCTAVES << RESOLUTION) + 2)
    if SCOPE == "channel":
        return bins + spread(of_state, COLUMNS) * WORDS
    else:
        return bins + (group - 1) * WORDS


@triton.jit
def count_in_bins(v, here, histogram, RESOLUTION: tl.constexpr):
    """Count those elements that are `here`, finite and not 0."""
    OF_SIGN: tl.constexpr = (OCTAVES << RESOLUTION) + 2
    if v.dtype == tl.float64:
        bits = v.to(tl.int64, bitcast=True)
        magnitude = bits & 0x7FFFFFFFFFFFFFFF
        place = bin_of(magnitude, 52, LARGEST_64, RESOLUTION)
        counted = here & (magnitude != 0) & (magnitude < 0x7FF0000000000000)
    else:
        bits = v.to(tl.int32, bitcast=True)
        magnitude = bits & 0x7FFFFFFF
        place = bin_of(magnitude, 23, LARGEST_32, RESOLUTION)
        counted = here & (magnitude != 0) & (magnitude < 0x7F800000)
    place = tl.where(bits < 0, place + OF_SIGN, place)
    tl.atomic_add(histogram + place, 1, mask=counted, sem="relaxed")
