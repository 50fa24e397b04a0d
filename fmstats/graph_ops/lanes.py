"""This module tells what one element adds to the partials of its plane, in Inductor's operations.

Imported only with Inductor. Everything is of plain operations: NVIDIA, AMD and Intel compile them,
and Triton's interpreter runs them.
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


def is_finite(x: Any) -> Any:
    """Tell whether `x`, float32, is neither NaN nor infinite."""
    return ops.lt(ops.abs(x), ops.constant(math.inf, torch.float32))


def cleaned(x: Any) -> Any:
    """Return `x`, float32, or 0 where it is not finite."""
    return ops.where(is_finite(x), x, ops.constant(0.0, torch.float32))


def middle_of(a: Any, b: Any, c: Any) -> Any:
    """Return the middle one of three float32 numbers that are finite."""
    return ops.maximum(ops.minimum(a, b), ops.minimum(ops.maximum(a, b), c))


def lanes_of(x: Any, thresholds: Thresholds, pivot: Any = None) -> Iterator[Lane]:
    """Return the lanes of an element, in the order of `part_names`.

    Args:
        x: the element, float32.
        thresholds: what counts as zero and as saturated.
        pivot: what sums are about, in float32; None: float64 sums about 0.
    """
    tol, low, high = thresholds.compared_as(torch.float32)
    zero, one = _real(0.0), _real(1.0)  # each once: Inductor does not know that two are the same
    size, infinity = ops.abs(x), _real(math.inf)
    finite = ops.lt(size, infinity)
    met = {
        "nan": lambda: ops.ne(x, x),
        "pos_inf": lambda: ops.eq(x, infinity),
        "neg_inf": lambda: ops.eq(x, _real(-math.inf)),
        "zeros": lambda: ops.le(size, _real(tol)) if tol else ops.eq(x, zero),
        # No bound is NaN, which compares false.
        "sat_low": lambda: ops.le(x, _real(low)),
        "sat_high": lambda: ops.ge(x, _real(high)),
    }
    for name in count_names(thresholds.mode):
        yield Lane("sum", torch.float32, ops.where(met[name](), one, zero))
    d = ops.where(finite, x if pivot is None else ops.sub(x, pivot), zero)
    if pivot is None:
        d = ops.to_dtype(d, torch.float64)
    for term in (d, ops.mul(d, d)):
        yield Lane("sum", torch.float64 if pivot is None else torch.float32, term)
    # Integers in the order of the numbers: their minimum is one instruction, that of floats three,
    # since NaN have to get through.
    bits = ops.to_dtype_bitcast(x, torch.int32, torch.float32)
    sign = ops.bitwise_right_shift(bits, _int(31))
    key = ops.bitwise_xor(bits, ops.bitwise_and(sign, _int(_SIZE)))
    yield Lane("min", torch.int32, ops.where(finite, key, _int(BEYOND)))
    yield Lane("max", torch.int32, ops.where(finite, key, _int(~BEYOND)))


def _real(value: float) -> Any:
    return ops.constant(value, torch.float32)


def _int(value: int) -> Any:
    return ops.constant(value, torch.int32)
