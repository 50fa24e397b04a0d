"""The operation `fmstats::partials` reduces a tensor to its partials, by PyTorch's operations.

The kernels that `lowering.py` has Inductor make hold the same numbers; this is what they are
compared with, and what runs where Inductor does not take the lowering. `target` is the number of
what is measured, for reports. A list of one tensor is returned, since Inductor moves what returns a
tensor to what takes it: that is `fold`, at the end of the graph, and all activations would be kept
until then.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fmstats.graph_ops.library import library
from fmstats.graph_ops.parts import count_words, join
from fmstats.graph_ops.planes import planes_of
from fmstats.statistic.float_order import order_keys
from fmstats.statistic.thresholds import Thresholds

library.define(
    "partials(Tensor x, int channel_dim, float zero_tol, float? low, float? high, "
    "int target=-1) -> Tensor[]"
)

# The order key of infinity; that of -infinity is ~BEYOND. They stand for no finite element.
BEYOND = 0x7F800000


def _partials(
    x: Tensor,
    channel_dim: int,
    zero_tol: float,
    low: float | None,
    high: float | None,
    target: int = -1,
) -> list[Tensor]:
    thresholds = Thresholds(zero_tol, low, high)
    planes = planes_of(x.shape, channel_dim)
    x = x.to(torch.float32)
    finite = x.abs() < math.inf
    numbers = torch.where(finite, x, 0.0).to(torch.float64)
    keys = order_keys(x + 0.0)  # -0.0 becomes 0.0
    over = planes.reduced
    tol, bottom, top = thresholds.compared_as(torch.float32)
    flags = {
        "nan": x.isnan(),
        "pos_inf": x == math.inf,
        "neg_inf": x == -math.inf,
        "zeros": x.abs() <= tol,
        "sat_low": x <= bottom,
        "sat_high": x >= top,
    }
    made = {
        "+".join(names): planes.packing.pack([_sum(flags[name].long(), over) for name in names])
        for names in planes.packing.groups(thresholds.mode)
    }
    made |= {"sum": _sum(numbers, over), "sum_sq": _sum(numbers * numbers, over)}
    low_keys, high_keys = (torch.where(finite, keys, k) for k in (BEYOND, ~BEYOND))
    made["min"] = low_keys.amin(over) if over else low_keys
    made["max"] = high_keys.amax(over) if over else high_keys
    made = {name: part.reshape(planes.shape) for name, part in made.items()}
    return [join(made, thresholds.mode, planes.packing)]


def _sum(x: Tensor, over: tuple[int, ...]) -> Tensor:
    # Without dims to sum over, sum() would take all.
    return x.sum(over, dtype=x.dtype) if over else x.clone()


def _fake(
    x: Tensor,
    channel_dim: int,
    zero_tol: float,
    low: float | None,
    high: float | None,
    target: int = -1,
) -> list[Tensor]:
    planes = planes_of(x.shape, channel_dim)
    words = count_words(Thresholds(zero_tol, low, high).mode, planes.packing)
    return [x.new_empty((words, *planes.shape), dtype=torch.int32)]


library.impl("partials", _partials, "CompositeExplicitAutograd")
torch.library.register_fake("fmstats::partials", _fake, lib=library)
