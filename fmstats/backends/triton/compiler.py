"""Kernels are compiled before their launch: by dtype, thresholds, layout and target.

Triton's own launcher would compile again for sizes that are 1, divisible by 16 or beyond 31 bits.
Here all integers are int64 of unknown value and what is aligned is said by the layout, so that a
shape never compiles. What a Triton version wants to be told differently is told here.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from triton.compiler import ASTSource
from triton.runtime import driver

from fmstats.backends.triton.kernels.fold import fold
from fmstats.backends.triton.kernels.graph_fold import graph_fold
from fmstats.backends.triton.kernels.measure import measure
from fmstats.backends.triton.plan import GRAPH_LANES, GRAPH_ROWS, MOST_DIMS, THREADS, Layout
from fmstats.statistic.measures import ALWAYS, Measures

__all__ = [
    "compile_fold",
    "compile_graph_fold",
    "compile_measure",
    "driver",
    "fold",
    "graph_fold",
    "launch",
    "measure",
]

VERSION = tuple(int(part) for part in triton.__version__.split(".")[:2])

POINTERS = {"state": "*i64", "parts": "*i64", "thresholds": "*fp64", "clock": "*i64"}
POINTERS["partials"] = "*i32"
POINTERS["numbers"] = "*u8"
# Arguments of kernels for tensors whose positions are in groups: for all others they are nothing.
OF_GROUPS = ("numbers", "groups", "g1", "g2", "g3", "h0", "h1", "h2", "h3")
POINTERS |= {"powers": "*fp64", "bins": "*i64"}
# What has bits of its own to be read is handed over as integers.
ELEMENTS = {
    "float32": "*fp32",
    "float64": "*fp64",
    "float16": "*fp16",
    "bfloat16": "*u16",
    "float8_e4m3fn": "*u8",
    "float8_e5m2": "*u8",
}
BITS = {
    torch.bfloat16: torch.uint16,
    torch.float8_e4m3fn: torch.uint8,
    torch.float8_e5m2: torch.uint8,
}
ITEMSIZE = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}


def measure_constants(
    dtype: str, mode: str, layout: Layout, measures: Measures = ALWAYS
) -> dict[str, Any]:
    """Return the compile-time arguments of `measure.measure`."""
    itemsize = ITEMSIZE.get(dtype, 1)
    nothing = {} if layout.grouped else dict.fromkeys(OF_GROUPS)
    bins = measures.bins
    return {
        **nothing,
        **_sums_constants(measures),
        **({"bins": None} if bins is None else {}),
        "SCOPE": "none" if bins is None else bins.scope,
        "RESOLUTION": 0 if bins is None else bins.resolution,
        "DTYPE": dtype,
        "MODE": mode,
        "COLUMNS": layout.kernel == "columns",
        "VECTOR": layout.vector,
        "WIDTH": layout.width,
        "LANES": layout.lanes,
        "UNROLL": layout.unroll(itemsize),
        "AGAIN": layout.again,
        "DIMS": layout.dims,
        "INDEX": tl.int32 if layout.narrow else tl.int64,
        "BY_PLACE": layout.by_place,
        "NUMBER_DIMS": layout.number_dims,
    }


def fold_constants(
    dtype: str, grouped: bool = False, measures: Measures = ALWAYS
) -> dict[str, Any]:
    """The compile-time arguments of `fold.fold`."""
    nothing = {} if grouped else dict.fromkeys(OF_GROUPS)
    return {
        **nothing,
        **_sums_constants(measures),
        **({} if measures else {"end": None}),
        "DTYPE": dtype,
        "LANES": THREADS,
        "NUMBER_DIMS": MOST_DIMS if grouped else 0,
    }


def _sums_constants(measures: Measures) -> dict[str, Any]:
    """Return what both kernels know of requested sums; without any, they are given no memory."""
    asked = {"ABS": "abs" in measures.sums, "KURTOSIS": "kurtosis" in measures.sums}
    return asked if measures.sums else {**asked, "powers": None}


def compile_measure(
    dtype: str, mode: str, layout: Layout, target: Any, measures: Measures = ALWAYS
) -> Any:
    """Compile `measure.measure` for a `GPUTarget` to a `triton.compiler.CompiledKernel`."""
    aligned = layout.vector * ITEMSIZE.get(dtype, 1)
    return _compile(measure, measure_constants(dtype, mode, layout, measures), aligned, target)


def compile_fold(
    dtype: str, target: Any, grouped: bool = False, measures: Measures = ALWAYS
) -> Any:
    """`fold.fold` for a `GPUTarget`."""
    constants = fold_constants(dtype, grouped, measures)
    return _compile(fold, constants, ITEMSIZE.get(dtype, 1), target)


def graph_fold_constants() -> dict[str, Any]:
    """The compile-time arguments of `graph_fold.graph_fold`."""
    return {"ROWS": GRAPH_ROWS, "LANES": GRAPH_LANES}


def compile_graph_fold(target: Any) -> Any:
    """`graph_fold.graph_fold` for a `GPUTarget`."""
    return _build(graph_fold, graph_fold_constants(), POINTERS, None, target)


def launch(compiled: Any, programs: int, stream: int, *arguments: int) -> None:
    """Launch a compiled kernel; arguments are all but the compile-time ones."""
    if VERSION >= (3, 3):  # which skips these itself
        arguments += (None,) * compiled.fmstats_constants
    compiled.run(
        *(programs, 1, 1, stream, compiled.function, compiled.packed_metadata),
        *(None, None, None),  # no profiler's hooks
        *arguments,
    )


def _compile(kernel: Any, constants: dict[str, Any], aligned: int, target: Any) -> Any:
    types = {"x": ELEMENTS[constants["DTYPE"]], **POINTERS}
    return _build(kernel, constants, types, ("x", aligned), target)


def _build(
    kernel: Any,
    constants: dict[str, Any],
    types: dict[str, str],
    aligned: tuple[str, int] | None,
    target: Any,
) -> Any:
    """Compile a kernel, of whose pointers one may be a multiple of some bytes."""
    signature = {name: types.get(name, "i64") for name in kernel.arg_names if name not in constants}
    places = [] if aligned is None else [kernel.arg_names.index(aligned[0])]
    by = 1 if aligned is None else aligned[1]
    attributes: Any = {(place,): [["tt.divisibility", by]] for place in places}
    if VERSION >= (3, 3):
        signature |= dict.fromkeys(constants, "constexpr")
    else:
        from triton.backends.compiler import AttrsDescriptor

        attributes = AttrsDescriptor()
        attributes.arg_properties["tt.divisibility"] = places
        attributes.property_values["tt.divisibility"] = by
    source = ASTSource(kernel, signature, constants, attributes)
    compiled = triton.compile(
        source,
        target=target,
        # Whether a * b + c is fused must be the source's choice.
        options={"num_warps": THREADS // target.warp_size, "enable_fp_fusion": False},
    )
    compiled.fmstats_constants = len(constants)
    return compiled
