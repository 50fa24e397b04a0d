"""This module teaches Inductor's Triton kernels one more reduction, which measures a tensor.

To Inductor it is one operation on an element. As the dozen that it is, each of which Inductor
traces, analyses and renames a dozen times, it took most of the time of compiling. Imported only
with Inductor.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import wraps
from typing import Any

import torch
from torch._inductor.codegen import triton
from torch._inductor.codegen.common import DeferredLine

from fmstats.graph_ops.lanes import Lanes
from fmstats.graph_ops.parts import EXTREMES, part_dtype, part_words
from fmstats.statistic.packing import Packing
from fmstats.statistic.thresholds import Thresholds


class Measuring(str):
    """This type of a reduction makes all partials of a tensor: Inductor's own are strings, too.

    Attributes:
        thresholds: what counts as zero and as saturated.
        packing: of the counts.
        step: how many planes and channels there are in all.
    """

    thresholds: Thresholds
    packing: Packing
    step: int

    @classmethod
    def of(cls, thresholds: Thresholds, packing: Packing, step: int) -> Measuring:
        """Return the reduction of a tensor."""
        made = cls(f"measure({thresholds}, {packing})")
        made.thresholds, made.packing, made.step = thresholds, packing, step
        return made


def install() -> None:
    """Have all Triton kernels know the reduction; others go the way they went."""
    kernels: Any = triton.TritonKernel
    reduction, store_reduction = kernels.reduction, kernels.store_reduction

    @wraps(reduction)
    def measuring_reduction(
        kernel: Any, dtype: torch.dtype, src_dtype: torch.dtype, reduction_type: str, value: Any
    ) -> Any:
        if isinstance(reduction_type, Measuring):
            return _measure(kernel, reduction_type, value)
        return reduction(kernel, dtype, src_dtype, reduction_type, value)

    @wraps(store_reduction)
    def measuring_store(kernel: Any, name: str, index: Any, value: Any) -> None:
        measuring = getattr(value, "measuring", None)
        if measuring is None:
            store_reduction(kernel, name, index, value)
        else:
            _store(kernel, name, index, value)

    kernels.reduction, kernels.store_reduction = measuring_reduction, measuring_store


def _measure(kernel: Any, measuring: Measuring, value: Any) -> Any:
    """Write the lines that measure an element; return what stands for all partials."""
    shape, dim = _reduced(kernel)
    result = kernel.cse.newvar(dtype=torch.float32, shape=shape)
    lanes = Lanes(f"_{result}", measuring.thresholds, measuring.packing)
    inside = kernel.compute
    persistent = kernel.persistent_reduction  # without a loop
    before, behind = (inside, inside) if persistent else (kernel.body, kernel.post_loop_combine)
    size, x = kernel.dense_size_str(), f"_{result}_x"
    before.writelines(lanes.begin(size))
    inside.writeline(f"{x} = tl.broadcast_to({value}, {size})")
    inside.writelines(lanes.add(x, _mask(kernel)))
    if kernel.num_reduction_dims > 1:
        behind.writelines(_as_one_dim(kernel, lane, dim) for lane in lanes.names)
    result.measuring, result.parts = measuring, {}
    for name, expression in lanes.end(dim).items():
        part = result.parts[name] = f"_{result}_{name.replace('+', '_')}"
        behind.writeline(f"{part} = {kernel.reduction_resize(expression)}")
        if name in EXTREMES:
            behind.writelines(_order_key(part))
    return result


def _store(kernel: Any, name: str, index: Any, value: Any) -> None:
    """Write the lines that store all partials of a plane and channel."""
    kernel.inside_reduction = False
    place = kernel.indexing(index)
    kernel.inside_reduction = True
    at = place.index_str
    if index.is_number:  # a place that is the same for all
        at += f".broadcast_to({', '.join(map(str, value.shape))})"
    out, lines = kernel.args.output(name), kernel.post_loop_store
    kernel._handle_pdl_before_access(lines, out)
    measuring = value.measuring
    for part, words in part_words(measuring.thresholds.mode, measuring.packing).items():
        dtype = str(part_dtype(part)).removeprefix("torch.")
        begin = words.start // len(words) * measuring.step
        field = f"{out}.to(tl.pointer_type(tl.{dtype})) + ({begin} + ({at}))"
        line = f"tl.store({field}, {value.parts[part]}, {place.mask_str})"
        lines.writeline(DeferredLine(name, line))


def _mask(kernel: Any) -> str:
    """Return which elements of a tile there are; "" if all."""
    masks = {f"{tree.prefix}mask" for tree in kernel.range_trees}
    kernel.filter_masks(masks)
    return " & ".join(sorted(masks))


def _reduced(kernel: Any) -> tuple[tuple[str, ...], int]:
    """Return the shape of a tile that was reduced, and its first dim that was."""
    sizes = kernel.dense_size_list()
    dim = len(sizes) - kernel.num_reduction_dims
    return (*sizes[:dim], *["1"] * kernel.num_reduction_dims), dim


def _as_one_dim(kernel: Any, lane: str, dim: int) -> str:
    """Return the line that lays the dims of a lane that are reduced into one."""
    sizes = kernel.dense_size_list()
    return f"{lane} = {triton.triton_reshape(lane, sizes, [*sizes[:dim], 'RBLOCK'])}"


def _order_key(x: str) -> Iterator[str]:
    """Return the lines that make float32 numbers integers in their order, -0.0 that of 0.0."""
    yield f"{x} = ({x} + 0.0).to(tl.int32, bitcast=True)"
    yield f"{x} = {x} ^ (({x} >> 31) & 0x7FFFFFFF)"
