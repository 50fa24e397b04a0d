"""`reduce_to_partials` adds one node to Inductor's graph, which makes all partials of a tensor.

A node for each partial would be traced, scheduled and compared with every other one on its own:
that took three times the time. Imported only with Inductor, of which these are inner parts:
`lowering.why_not_here` tells which versions are known to have them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import sympy
import torch
from torch._inductor import ir
from torch._inductor.runtime.hints import ReductionHint
from torch._inductor.virtualized import V, ops

from fmstats.graph_ops.in_triton import Measuring
from fmstats.graph_ops.parts import count_words
from fmstats.graph_ops.planes import Planes
from fmstats.statistic.thresholds import Thresholds


class PartialsReduction(ir.Reduction):
    """This reduction stores several numbers of each plane and channel.

    Attributes:
        channels_last: whether neighbours in memory are of different channels.
    """

    store: Callable[[str, Sequence[Any], Sequence[Any]], None]
    channels_last: bool

    def store_reduction(
        self, output_name: Any, indexer: Any, vars: Sequence[Any], reduction_vars: Sequence[Any]
    ) -> None:
        """Store all partials of one plane and channel."""
        self.store(output_name, vars, reduction_vars)


def reduce_to_partials(
    x: Any, planes: Planes, thresholds: Thresholds, channels_last: bool
) -> ir.TensorBox:
    """Have the partials of a tensor made in the kernel that makes the tensor, if it can be.

    Args:
        x: what a lowering is handed: a tensor of one of `lowering.DTYPES`.
        planes: of its shape.
        thresholds: what counts as zero and as saturated.
        channels_last: whether neighbours in memory are of different channels.

    Returns:
        The partials, as `statistic/partials.py` tells.
    """
    device, size = x.get_device(), x.get_size()
    load = x.make_loader()
    measuring: Any = Measuring.of(thresholds, planes.packing, prod(planes.shape))

    def element(kept: Sequence[Any], reduced: Sequence[Any]) -> Any:
        index = dict(zip((*planes.kept, *planes.reduced), (*kept, *reduced), strict=True))
        return ops.to_dtype(load([index[dim] for dim in range(len(size))]), torch.float32)

    ranges = [size[dim] for dim in planes.kept]
    strides = ir.FlexibleLayout.contiguous_strides(ranges)

    def store(name: str, kept: Sequence[Any], reduced: Sequence[Any]) -> None:
        index = sum((stride * i for stride, i in zip(strides, kept, strict=True)), sympy.S.Zero)
        total = ops.reduction(torch.float32, torch.float32, measuring, element(kept, reduced))
        ops.store_reduction(name, index, total)

    data = PartialsReduction(
        device=device,
        dtype=torch.int32,
        inner_fn=element,
        ranges=ranges,
        reduction_ranges=[size[dim] for dim in planes.reduced],
        reduction_type="sum",
        src_dtype=torch.float32,
        reduction_hint=ReductionHint.OUTER if channels_last else ReductionHint.INNER,
    )
    data.__dict__.update(store=store, channels_last=channels_last)
    shape = (count_words(thresholds.mode, planes.packing), *planes.shape)
    sizes = [sympy.Integer(size) for size in shape]
    layout = ir.FixedLayout(
        device, torch.int32, sizes, ir.FlexibleLayout.contiguous_strides(sizes), sympy.S.Zero
    )
    buffer = ir.ComputedBuffer(name=None, layout=layout, data=data)
    buffer.name = V.graph.register_buffer(buffer)
    V.graph.register_operation(buffer)
    return ir.TensorBox(ir.StorageBox(buffer))
