"""This module tells what one element adds to the partials of its plane, in Inductor's operations.

Imported only with Inductor. Everything is of plain operations: NVIDIA, AMD and Intel compile them,
and Triton's interpreter runs them. Inductor handles each operation half a dozen times, constants
too, so numbers are written into the operations that use them, and conditions are summed as they
are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch._inductor.virtualized import ops

from fmstats.graph_ops.partials import BEYOND
from fmstats.graph_ops.parts import count_names
from fmstats.statistic.thresholds import Thresholds

_SIZE = 0x7FFFFFFF  # the bits of a float32 without its sign


class Lane(NamedTuple):
    """A lane is what is reduced to one partial: how, and in which dtype it adds up."""

    kind: str
    dtype: torch.dtype
    value: Any


def lanes_of(x: Any, thresholds: Thresholds) -> Iterator[Lane]:
    """Return the lanes of an element, in the order of `part_names`.

    Args:
        x: the element, float32.
        thresholds: what counts as zero and as saturated.
    """
    tol, low, high = thresholds.compared_as(torch.float32)
    size, infinity = ops.abs(x), ops.constant(math.inf, torch.float32)
    finite = ops.lt(size, infinity)
    met = {
        "nan": lambda: ops.ne(x, x),
        "pos_inf": lambda: ops.eq(x, infinity),
        "neg_inf": lambda: ops.eq(x, ops.constant(-math.inf, torch.float32)),
        "zeros": lambda: ops.le(size, tol) if tol else ops.eq(x, 0.0),
        # Without a bound nothing meets it.
        "sat_low": lambda: ops.lt(x, x) if math.isnan(low) else ops.le(x, low),
        "sat_high": lambda: ops.lt(x, x) if math.isnan(high) else ops.ge(x, high),
    }
    for name in count_names(thresholds.mode):
        yield Lane("sum", torch.float32, ops.where(met[name](), 1.0, 0.0))
    number = ops.to_dtype(ops.where(finite, x, 0.0), torch.float64)
    for term in (number, ops.mul(number, number)):
        yield Lane("sum", torch.float64, term)
    # Integers in the order of the numbers: their minimum is one instruction, that of floats three,
    # since NaN have to get through.
    bits = ops.to_dtype_bitcast(x, torch.int32, torch.float32)
    key = ops.bitwise_xor(bits, ops.bitwise_and(ops.bitwise_right_shift(bits, 31), _SIZE))
    yield Lane("min", torch.int32, ops.where(finite, key, BEYOND))
    yield Lane("max", torch.int32, ops.where(finite, key, ~BEYOND))
