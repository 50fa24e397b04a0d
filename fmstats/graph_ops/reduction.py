"""`reduce_to_parts` adds one node to Inductor's graph, which makes all partials of a tensor.

A node for each partial would be traced, scheduled and compared with every other one on its own:
that took three times the time. Imported only with Inductor, of which these are inner parts:
`lowering.why_not_here` tells which versions are known to have them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from math import prod
from typing import Any

import sympy
import torch
from torch._inductor import ir
from torch._inductor.runtime.hints import ReductionHint
from torch._inductor.virtualized import V, ops

from fmstats.graph_ops.in_triton import Measuring
from fmstats.graph_ops.parts import part_dtype, part_names
from fmstats.graph_ops.planes import Planes
from fmstats.statistic.thresholds import Thresholds


class PartsReduction(ir.Reduction):
    """This reduction stores a number in each of several buffers.

    Attributes:
        channels_last: whether neighbours in memory are of different channels.
    """

    store: Callable[[Sequence[Any], Sequence[Any]], None]
    channels_last: bool

    def store_reduction(
        self, output_name: Any, indexer: Any, vars: Sequence[Any], reduction_vars: Sequence[Any]
    ) -> None:
        """Store all partials of one plane and channel."""
        self.store(vars, reduction_vars)


class _PartsBuffer(ir.ComputedBuffer):
    """The buffer of the first partials, whose node makes the others, too."""

    outputs: list[ir.Buffer]

    def get_outputs(self) -> list[ir.Buffer]:
        return self.outputs


class _OtherBuffer(ir.Buffer):
    """A buffer that the node of a `_PartsBuffer` fills."""

    def should_allocate(self) -> bool:
        return True


class _Realized(ir.StorageBox):
    """The storage of a buffer that is made whatever is asked of it."""

    def realize(self) -> str | None:
        return self.data.get_name()


def reduce_to_parts(
    x: Any, planes: Planes, thresholds: Thresholds, channels_last: bool
) -> list[Any]:
    """Have the partials of a tensor made in the kernel that makes the tensor, if it can be.

    Args:
        x: what a lowering is handed: a tensor of one of `lowering.DTYPES`.
        planes: of its shape.
        thresholds: what counts as zero and as saturated.
        channels_last: whether neighbours in memory are of different channels.

    Returns:
        The partials, in the order of `part_names`.
    """
    device, size = x.get_device(), x.get_size()
    load = x.make_loader()
    names = part_names(thresholds.mode, planes.packing)
    dtypes = [part_dtype(name) for name in names]
    measuring = Measuring.of(thresholds, planes.packing, prod(planes.shape))

    def at(kept: Sequence[Any], reduced: Sequence[Any]) -> list[Any]:
        index = dict(zip((*planes.kept, *planes.reduced), (*kept, *reduced), strict=True))
        return [index[dim] for dim in range(len(size))]

    def element(kept: Sequence[Any], reduced: Sequence[Any]) -> Any:
        return ops.to_dtype(load(at(kept, reduced)), torch.float32)

    ranges = [size[dim] for dim in planes.kept]
    data = PartsReduction(
        device=device,
        dtype=dtypes[0],
        inner_fn=element,
        ranges=ranges,
        reduction_ranges=[size[dim] for dim in planes.reduced],
        reduction_type="sum",
        src_dtype=torch.float32,
        reduction_hint=ReductionHint.OUTER if channels_last else ReductionHint.INNER,
    )
    # One buffer for all partials of a dtype: to allocate each would take the host longer.
    together = [
        (dtype, [name for name, _ in group])
        for dtype, group in groupby(zip(names, dtypes, strict=True), key=lambda pair: pair[1])
    ]
    buffers = _buffers(data, device, planes, together)
    measuring.stored.update(
        (buffer.get_name(), group) for buffer, (_, group) in zip(buffers, together, strict=True)
    )
    places = [
        (buffer, number * measuring.apart)
        for buffer, (_, group) in zip(buffers, together, strict=True)
        for number in range(len(group))
    ]
    strides = ir.FlexibleLayout.contiguous_strides(ranges)

    def store(kept: Sequence[Any], reduced: Sequence[Any]) -> None:
        index = sum((stride * i for stride, i in zip(strides, kept, strict=True)), sympy.S.Zero)
        kind: Any = measuring
        total = ops.reduction(torch.float32, torch.float32, kind, element(kept, reduced))
        for buffer in buffers:
            ops.store_reduction(buffer.get_name(), index, total)

    data.__dict__.update(store=store, channels_last=channels_last)
    boxes = {id(buffer): _Realized(buffer) for buffer in buffers}
    return [
        ir.TensorBox(
            ir.ReinterpretView(
                data=boxes[id(buffer)],
                layout=_contiguous(device, dtype, planes.shape, offset),
            )
        )
        for (buffer, offset), dtype in zip(places, dtypes, strict=True)
    ]


def _buffers(
    data: PartsReduction,
    device: torch.device,
    planes: Planes,
    together: Sequence[tuple[torch.dtype, list[str]]],
) -> list[Any]:
    layouts = [
        _contiguous(device, dtype, (len(group), *planes.shape), 0) for dtype, group in together
    ]
    first = _PartsBuffer(name=None, layout=layouts[0], data=data)
    buffers = [first, *(_OtherBuffer(name=None, layout=layout) for layout in layouts[1:])]
    for buffer in buffers:
        buffer.name = V.graph.register_buffer(buffer)
    first.outputs = buffers
    V.graph.register_operation(first)
    return buffers


def _contiguous(
    device: torch.device, dtype: torch.dtype, shape: Sequence[int], offset: int
) -> ir.FixedLayout:
    sizes = [sympy.Integer(size) for size in shape]
    strides = ir.FlexibleLayout.contiguous_strides(sizes)
    return ir.FixedLayout(device, dtype, sizes, strides, sympy.Integer(offset))
