"""Make the rows of the layer table from a trace."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from fmstats.analysis.parameters import own_weights
from fmstats.analysis.records import Call, Trace
from fmstats.analysis.roofline import Gpu
from fmstats.models.selection import ROOT, is_leaf
from fmstats.models.wrappers import named_modules

Extent = int | tuple[int, ...]


@dataclass(frozen=True)
class LayerRow(Mapping[str, Any]):
    """Describes one layer: a leaf module, or what a block does beside its submodules.

    Fields can be read as attributes or by name, `row.flops` or `row["flops"]`.

    Attributes:
        output_shape: of the first call, (N, C, H, W) for instance; None for one that never ran.
        params: parameters of its own, those that weights are computed from (weight norm) and those
            that a quantized layer packs included; what several modules share counts in the first.
        flops: of all calls; a multiplication and an addition are two.
        macs: multiplications with an addition, half of `flops`.
        activation_elements: of a leaf's output, all calls together; of a block, what its own
            operations made.
        activation_bytes: their bytes.
        receptive_field: pixels of the input that an element sees; a tuple if not square, None if
            all of them or not known.
        stride: pixels of the input between neighbours, in the same manner.
        traffic_bytes: read and written, if every operation reads its operands once and writes its
            results once.
        intensity: flops / traffic_bytes.
        bound: "compute" or "memory" on the GPU that was asked for; None without one.
        params_share, flops_share, activations_share: of the totals, 0 to 1.
    """

    name: str
    type: str
    output_shape: tuple[int, ...] | None
    params: int
    flops: int
    macs: int
    activation_elements: int
    activation_bytes: int
    calls: int
    receptive_field: Extent | None
    stride: Extent | float | None
    traffic_bytes: int
    intensity: float
    bound: str | None
    params_share: float
    flops_share: float
    activations_share: float

    def __getitem__(self, field: str) -> Any:
        if field not in COLUMNS:
            raise KeyError(f"a layer has no {field!r}; it has {', '.join(COLUMNS)}")
        return getattr(self, field)

    def __iter__(self) -> Iterator[str]:
        return iter(COLUMNS)

    def __len__(self) -> int:
        return len(COLUMNS)


COLUMNS = tuple(field.name for field in fields(LayerRow))


@dataclass(frozen=True)
class Part:
    """Describes a module of the model, whether it ran or not.

    Attributes:
        own_params: of the module itself, those that an earlier module has left out.
        first: its first call, None if it never ran.
    """

    name: str
    type: str
    leaf: bool
    own_params: int
    first: Call | None


def list_parts(model: nn.Module, found: Trace) -> dict[str, Part]:
    """List all modules: those that ran, in the order in which they first ended, then the others."""
    first: dict[str, Call] = {}
    for call in found.calls:
        first.setdefault(call.name, call)
    seen: set[Hashable] = set()
    parts = {}
    for name, module in named_modules(model).items():
        own = own_weights(module)
        elements = sum(weights.elements for key, weights in own.items() if key not in seen)
        seen |= own.keys()
        label = name or ROOT
        kind, leaf = type(module).__name__, is_leaf(module)
        parts[label] = Part(label, kind, leaf, elements, first.get(label))
    ran = [name for name in first if name in parts]
    return {name: parts[name] for name in [*ran, *(n for n in parts if n not in first)]}


def list_rows(
    parts: Mapping[str, Part], found: Trace, gpu: Gpu | None, dtype: torch.dtype
) -> list[LayerRow]:
    """Make a row per leaf that ran, and per module that does or holds something itself."""
    calls_of: dict[str, list[Call]] = {name: [] for name in parts}
    for call in found.calls:
        calls_of[call.name].append(call)
    drafts = []
    for name, part in parts.items():
        calls = calls_of[name]
        work = found.work[name]
        elements = sum(c.elements for c in calls) if part.leaf else work.made
        size = sum(c.bytes for c in calls) if part.leaf else work.made_bytes
        if part.own_params or work.flops or elements or (part.leaf and calls):
            drafts.append((part, calls, work, elements, size))
    params = sum(part.own_params for part, *_ in drafts)
    flops = sum(work.flops for _, _, work, _, _ in drafts)
    made = sum(elements for *_, elements, _ in drafts)
    return [
        LayerRow(
            name=part.name,
            type=part.type,
            output_shape=None if part.first is None else part.first.shape,
            params=part.own_params,
            flops=work.flops,
            macs=work.flops // 2,
            activation_elements=elements,
            activation_bytes=size,
            calls=len(calls),
            receptive_field=extent_of(part.first, "size"),
            stride=extent_of(part.first, "stride"),
            traffic_bytes=work.traffic,
            intensity=work.flops / work.traffic if work.traffic else 0.0,
            bound=None if gpu is None else gpu.bound(work.flops, work.traffic, dtype),
            params_share=part.own_params / max(params, 1),
            flops_share=work.flops / max(flops, 1),
            activations_share=elements / max(made, 1),
        )
        for part, calls, work, elements, size in drafts
    ]


def extent_of(call: Call | None, which: str) -> Any:
    """Return the "size" or "stride" of a call's field; a single number if all dims agree."""
    if call is None or call.field is None:
        return None
    exact = getattr(call.field, which)
    if which == "size":  # Behind an upsampling a mean, see `fields`.
        exact = [math.ceil(round(v, 6)) for v in exact]
    values = tuple(int(v) if v == int(v) else v for v in exact)
    return values[0] if len(set(values)) == 1 else values
