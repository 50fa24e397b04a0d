"""The partials of a tensor are what graphs reduce it to: numbers of each plane and channel.

They lie in one int32 tensor, (words, planes, channels): one after the other in the order of
`part_names`, each of which is (planes, channels) of its own dtype. The planes of a channel add up
to one part, and a part is turned into a state, in the way that csrc/parts.h does it for kernels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from fmstats.statistic.fields import (
    COMPARISONS,
    EXTREMES,
    MINIMA,
    NON_FINITE,
    PIVOTED,
    SUMS,
)
from fmstats.statistic.float_order import at_order_keys, places
from fmstats.statistic.packing import Packing
from fmstats.statistic.state import State

ALL_SUMS = PIVOTED + SUMS


def part_names(mode: str, packing: Packing) -> tuple[str, ...]:
    """Return the names of the partials of a tensor, in their order.

    Args:
        mode: in which it is measured.
        packing: of its planes. The name of several counts is those of all, joined by "+".
    """
    # Those of 8 bytes first, so that all are aligned.
    return (*ALL_SUMS, *map("+".join, packing.groups(mode)), *EXTREMES)


def part_dtype(name: str) -> torch.dtype:
    """Return the dtype of a partial, by its name of `part_names`."""
    if name in EXTREMES:
        return torch.int32
    return torch.float64 if name in ALL_SUMS else torch.float32


def part_words(mode: str, packing: Packing) -> dict[str, range]:
    """Return which words the partials of a tensor are, by their names."""
    words, begin = {}, 0
    for name in part_names(mode, packing):
        end = begin + part_dtype(name).itemsize // torch.int32.itemsize
        words[name] = range(begin, end)
        begin = end
    return words


def count_words(mode: str, packing: Packing) -> int:
    """Return how many int32 words a plane and channel of a tensor is reduced to."""
    return max(words.stop for words in part_words(mode, packing).values())


def join(partials: Mapping[str, Tensor], mode: str, packing: Packing) -> Tensor:
    """Return the tensor that partials lie in, each of (planes, channels), by their names."""
    ordered = [partials[name].contiguous() for name in part_names(mode, packing)]
    flat = torch.cat([part.view(-1).view(torch.int32) for part in ordered])
    return flat.view(-1, *ordered[0].shape)


def split(partials: Tensor, mode: str, packing: Packing) -> dict[str, Tensor]:
    """Return each of the partials that lie in a tensor, by their names."""
    shape = partials.shape[1:]
    step, flat = prod(shape), partials.view(-1)
    return {
        name: flat[words.start * step : words.stop * step].view(part_dtype(name)).view(shape)
        for name, words in part_words(mode, packing).items()
    }


def add_planes(partials: Mapping[str, Tensor], packing: Packing) -> dict[str, Tensor]:
    """Add the planes of each channel up: counts as int64, all else as float64.

    Args:
        partials: each of (planes, channels), by the names of `part_names`. Extremes are in the
            order of floats.
        packing: of their counts.
    """
    part = {}
    for name, planes in partials.items():
        if name in EXTREMES:
            part[name] = at_order_keys(planes.amin(0) if name in MINIMA else planes.amax(0))
        elif name in ALL_SUMS:
            part[name] = planes.sum(0)
        else:
            counts = packing.unpack(planes, name.split("+"))
            part |= {count: planes.sum(0) for count, planes in counts.items()}
    return part


def to_state(part: Mapping[str, Tensor], count: int) -> State:
    """Return the state of a tensor that was seen in one part.

    Args:
        part: as `add_planes` returns it.
        count: how many elements each channel has.
    """
    fields = {name: part.get(name, torch.zeros_like(part["nan"])) for name in COMPARISONS}
    fields |= {name: part[name] for name in (*NON_FINITE, *SUMS, *EXTREMES)}
    fields["count"] = torch.full_like(part["nan"], count)
    n = fields["count"] - sum(part[name] for name in NON_FINITE)
    shift = part["sum"] / n.clamp(min=1)
    m2 = part["sum_sq"] - part["sum"] * shift
    m2 = torch.where(m2 < 0, 0.0, m2)
    # Squares beyond float64 leave infinity, never what infinity less infinity is.
    m2 = torch.where(part["sum_sq"] < math.inf, m2, math.inf)
    # Rounding could lead out of the range, and a sum that overflowed gives any number of it. NaN is
    # not below the maximum.
    low, high = part["min"], part["max"]
    mean = torch.where(shift < high, shift, high)
    mean = torch.where(mean > low, mean, low)
    fields["mean"] = torch.where(n == 0, 0.0, mean)
    # A constant has no m2, however its sums were rounded.
    constant = places(low) == places(high)
    fields["m2"] = torch.where((n == 0) | constant, 0.0, m2)
    return State.of(fields)
