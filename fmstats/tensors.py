"""Which tensor of a layer's output is measured, and why one is not."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass

import torch
import torch.nn as nn
from torch import Tensor

from fmstats.backends import DTYPES


def first_tensor(output: object) -> Tensor | None:
    """The first floating-point tensor in nested tuples, lists, dicts and dataclasses, if any.

    With tensors but none of them floating-point, the first one.
    """
    found = list_tensors(output)
    for x in found:  # Dynamo of torch 2.6 knows no next(..., default)
        if x.is_floating_point():
            return x
    return found[0] if found else None


def list_tensors(output: object) -> list[Tensor]:
    """All tensors in an output, in its order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        parts = list(output.values())
    elif isinstance(output, (tuple, list)):
        parts = list(output)
    elif is_dataclass(output) and not isinstance(output, type):
        parts = [getattr(output, f.name) for f in fields(output)]
    else:
        return []
    return [x for part in parts for x in list_tensors(part)]


def plain_part(x: Tensor, dim: int | None = None) -> Tensor | str:
    """The plain tensor that this rank holds of a DTensor, or why it is not to be measured.

    A replicated tensor is whole on every rank, and counted by each; of one that is sharded along
    another dim than the channels, each rank counts its own part. One that a collective is still
    on its way to is waited for, as whatever reads it next would have done.

    Args:
        x: a DTensor, the promise of a tensor, or anything else, which is given back.
        dim: the channel dim of the whole, if known.
    """
    collectives = sys.modules.get("torch.distributed._functional_collectives")
    if collectives is not None and isinstance(x, collectives.AsyncCollectiveTensor):
        return x.trigger_wait()  # type: ignore[no-any-return]
    placed = sys.modules.get("torch.distributed.tensor")
    if placed is None or not isinstance(x, placed.DTensor):
        return x
    for placement in x.placements:
        if placement.is_partial():
            return "is a DTensor of partial sums"
        along = getattr(placement, "dim", None)  # a strided shard denies that it is_shard()
        if along is not None and dim is not None and (along - dim) % x.dim() == 0:
            return "is a DTensor sharded along its channels"
    return x.to_local()  # type: ignore[no-any-return]


def why_skipped(x: Tensor | None, output: object) -> str | None:
    """Why the tensor found in an output has no statistics, or None if it has."""
    if x is None:
        return f"holds no tensor ({type(output).__name__})"
    if type(x) not in (Tensor, nn.Parameter):
        return f"is a {type(x).__name__}, not a plain tensor"
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        return "is inside a function transform (vmap, grad, jvp), without memory of its own"
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return "is being traced by torch.jit"
    if x.is_nested:
        return "is a nested tensor"
    if x.dtype not in DTYPES:
        return f"is {str(x.dtype).removeprefix('torch.')}"
    if x.layout != torch.strided:
        return f"is {str(x.layout).removeprefix('torch.')}, not strided"
    if x.dim() == 0:
        return "is a single number"
    if x.is_meta:
        return "is on the meta device, without data"
    if x._is_zerotensor():
        return "is a tensor of zeros without memory"
    return None
