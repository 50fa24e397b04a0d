"""`before_copy` finds the dims again that a copy of positions joined, once they are apart.

Heads are laid behind samples, as (N * heads, T), which needs a copy of a mask (N, T) for each head.
Where a later shape tells heads from samples, the mask itself lies in it again, the same for each
head: so channels of several heads have one mask.
"""

from __future__ import annotations

import math

import torch

from fmstats.operations.numbers import Numbers
from fmstats.operations.spreads import Derived, Layout, Part


def before_copy(part: Part, numbers: Numbers) -> Part:
    """Return a part of what a copy was made of, where it lies as a part of the copy does.

    The part itself, where it is of no copy, or one of its dims lies across dims that were joined.

    Args:
        part: of a tensor.
        numbers: of the pass.
    """
    copied, layout = part.key, numbers.layout_of(part)
    if not isinstance(copied, Derived) or copied.function is not torch.reshape or layout is None:
        return part
    moved = _among(copied.of, layout)
    view = None if moved is None else numbers.view(moved)
    return part if view is None else before_copy(Part(copied.of.key, view), numbers)


def _among(before: Layout, layout: Layout) -> Layout | None:
    """Return a layout of a contiguous copy as one of what was copied; None if there is none."""
    # How far apart neighbours along each dim are in the copy.
    steps = [math.prod(before.sizes[dim + 1 :]) for dim in range(len(before.sizes))]
    last, rest = [], layout.offset  # of each dim, the place that is reached
    offset = before.offset
    for step, stride in zip(steps, before.strides, strict=True):
        place, rest = divmod(rest, step)
        offset += place * stride
        last.append(place)
    strides = []
    for size, stride in zip(layout.sizes, layout.strides, strict=True):
        if stride == 0:
            strides.append(0)
            continue
        dim = next(
            dim for dim, step in enumerate(steps) if step <= stride and before.sizes[dim] > 1
        )
        times, rest = divmod(stride, steps[dim])
        last[dim] += (size - 1) * times
        if rest or last[dim] >= before.sizes[dim]:
            return None
        strides.append(before.strides[dim] * times)
    return Layout(before.key, layout.sizes, tuple(strides), offset)
