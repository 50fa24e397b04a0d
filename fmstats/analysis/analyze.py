"""Analyze what shapes, parameters, FLOPs and memory each layer of a model has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fmstats.analysis.inputs import Dtypes, Sizes
from fmstats.analysis.parameters import all_weights, bytes_of
from fmstats.analysis.records import Trace
from fmstats.analysis.result import Analysis, Uncounted
from fmstats.analysis.roofline import find_gpu
from fmstats.analysis.rows import list_parts, list_rows
from fmstats.analysis.stages import Stages, find_stages
from fmstats.errors import FmstatsError
from fmstats.models.channel_dims import channel_rules
from fmstats.models.selection import ROOT
from fmstats.models.wrappers import unwrap_replicated


def analyze(
    model: nn.Module,
    *inputs: object,
    input_size: Sizes | None = None,
    dtype: Dtypes | None = None,
    device: str | torch.device = "meta",
    batch_dim: int | None = None,
    macs: bool = False,
    gpu: str | None = None,
) -> Analysis:
    """Run a model once on fake tensors and say what each layer is and costs.

    By default nothing is computed and no weight is allocated: a model of any size that was built
    on the meta device will do. What runs is a copy of the model and of its inputs, with all that
    their code can reach: parameters, caches, globals and random numbers are left as they were.

    Args:
        model: any module.
        *inputs: what the model is called with, as in `model(*inputs)`; one dict whose keys are
            names of arguments is called as `model(**inputs[0])`.
        input_size: instead of inputs: a size such as (1, 3, 224, 224), a list of sizes, or a dict
            of sizes by argument name.
        dtype: of these inputs: one, or as many as there are sizes, or a dict. Default: that of the
            model's parameters; token ids need torch.long.
        device: "meta" for fake tensors, or a real device, such as "cpu", for a model whose shapes
            depend on values: these need memory for a copy of its buffers, and of its parameters
            if they are elsewhere.
        batch_dim: the dim of the inputs along which samples run, for `totals["batch"]`. Default:
            by layers whose type determines it, such as convolutions, or by the size that all inputs
            share; None for a lone tensor without either.
        macs: print MACs where FLOPs would be printed; `rows` and `totals` have both.
        gpu: a GPU by name ("H100"), for the side of its roofline that each layer is on.

    Raises:
        FmstatsError: the inputs do not fit the model, the model raises, its shapes depend on values
            and the device is "meta", or an option is not known.

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
        >>> analysis = fmstats.analyze(model, input_size=(1, 3, 8, 8))
        >>> analysis["0"].output_shape, analysis.totals["params"]
        ((1, 8, 6, 6), 224)
    """
    if not isinstance(model, nn.Module):
        raise FmstatsError(f"analyze() takes a torch.nn.Module, got {type(model).__name__}")
    model = unwrap_replicated(model)
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise FmstatsError(f"device={device!r} is not known: give 'meta', 'cpu', ...") from error
    chosen = None if gpu is None else find_gpu(gpu)
    if batch_dim is not None and (isinstance(batch_dim, bool) or not isinstance(batch_dim, int)):
        raise FmstatsError(f"batch_dim={batch_dim!r}: give the number of a dim, or None")
    from fmstats.analysis.trace import trace  # brings fake tensors and Triton: half a second

    found = trace(model, inputs, input_size, dtype, where, batch_dim)
    parts = list_parts(model, found)
    floating = (p.dtype for p in model.parameters() if p.dtype.is_floating_point)
    rows = list_rows(parts, found, chosen, next(floating, torch.float32))
    return Analysis(
        model=type(model).__name__,
        rows=tuple(rows),
        totals=_totals(model, found, rows),
        stages=_stages(model, found),
        uncounted=_uncounted(found),
        notes=tuple(found.notes),
        macs=macs,
        parts=parts,
    )


def _totals(model: nn.Module, found: Trace, rows: Any) -> Mapping[str, Any]:
    weights = all_weights(model)
    flops = sum(row.flops for row in rows)
    return {
        "params": sum(w.elements for w in weights),
        "trainable_params": sum(w.elements for w in weights if w.trainable),
        "param_bytes": sum(w.bytes for w in weights),
        "buffer_bytes": bytes_of(model.buffers()),
        "flops": flops,
        "macs": flops // 2,
        "activation_elements": sum(row.activation_elements for row in rows),
        "activation_bytes": sum(row.activation_bytes for row in rows),
        "peak_activation_bytes": found.peak,
        "saved_for_backward_bytes": found.saved,
        "traffic_bytes": sum(row.traffic_bytes for row in rows),
        "input_bytes": found.input_bytes,
        "batch": found.batch,
    }


def _stages(model: nn.Module, found: Trace) -> Stages:
    rules = channel_rules(model)
    maps = [
        call
        for call in found.calls
        if call.name != ROOT
        and call.shape is not None
        and call.field is not None
        and 3 <= len(call.shape) <= 5
        and rules[call.name].resolve(call.shape) == 1
    ]
    return find_stages(maps)


def _uncounted(found: Trace) -> tuple[Uncounted, ...]:
    calls: Counter[tuple[str, str]] = Counter()
    layers: dict[tuple[str, str], list[str]] = {}
    for name, work in found.work.items():
        calls += work.uncounted
        for key in work.uncounted:
            layers.setdefault(key, []).append(name)
    return tuple(Uncounted(*key, n, tuple(layers[key])) for key, n in calls.most_common())
