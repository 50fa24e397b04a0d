"""These functions find the tensor of an output that is measured, or why none is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass

import torch
import torch.nn as nn
from torch import Tensor

from fmstats.backends.base import why_unmeasurable

# Of one output. An output can hold itself, or make new parts whenever it is asked for them.
_MOST_CONTAINERS = 10_000
TRANSFORMED = "is inside a function transform (vmap, grad, jvp), without memory of its own"

_is_traced = torch.compiler.is_dynamo_compiling


def first_tensor(output: object) -> Tensor | None:
    """Return the tensor that is measured of an output, if it holds any.

    That is the first one that is floating-point and no single number: of (loss, logits) the logits.
    Without such, the first floating-point one, or else the first one. Nested tuples, lists, dicts
    and dataclasses are looked through in their order; what cannot be read of them is passed over.
    """
    waiting: list[object] = [output]
    seen: dict[int, object] = {}
    number = other = None
    while waiting:  # not by recursion: nothing bounds how deep an output is nested
        part = waiting.pop()
        if isinstance(part, Tensor):
            if not _is_float(part):
                other = part if other is None else other
            elif _count_dims(part) > 0:
                return part
            else:
                number = part if number is None else number
            continue
        parts = _parts_of(part)
        if not parts:
            continue
        if not _is_traced():  # Dynamo knows no identities, nor can it trace what holds itself
            if id(part) in seen or len(seen) >= _MOST_CONTAINERS:
                continue
            seen[id(part)] = part  # kept, so that its identity is not that of a later one
        waiting.extend(reversed(parts))
    return other if number is None else number


def _parts_of(output: object) -> list[object]:
    """Return what an output holds, in its order; none if it is no container or unreadable."""
    if _is_traced():
        return _read_parts(output)
    try:
        return _read_parts(output)
    except Exception:  # of the code of whoever wrote the container
        return []


def _read_parts(output: object) -> list[object]:
    if isinstance(output, Mapping):
        return list(output.values())
    if isinstance(output, (tuple, list)):
        return list(output)
    if is_dataclass(output) and not isinstance(output, type):
        return [_read_field(output, f.name) for f in fields(output)]
    return []


def _read_field(output: object, name: str) -> object:
    """Return a field, None where it was never set or cannot be read."""
    if _is_traced():
        return getattr(output, name, None)
    try:
        return getattr(output, name)
    except Exception:
        return None


def _is_float(x: Tensor) -> bool:
    if type(x) is Tensor or _is_traced():
        return x.is_floating_point()
    with torch._C.DisableTorchFunctionSubclass():  # a subclass may do anything when it is asked
        return x.is_floating_point()


def _count_dims(x: Tensor) -> int:
    if type(x) is Tensor or _is_traced():
        return x.dim()
    with torch._C.DisableTorchFunctionSubclass():
        return x.dim()


def plain_part(x: Tensor, dim_of: Callable[[Tensor], int | None]) -> Tensor | str:
    """Return the plain tensor that this rank holds of a DTensor, or why it is not measured.

    A replicated tensor is whole on every rank, and counted by each; of one that is sharded along
    another dim than the channels, each rank counts its own part. One that a collective is still
    on its way to is waited for, as whatever reads it next would have done.

    A subclass that keeps its numbers as a plain tensor does is read as one, past its own code; one
    that does otherwise, by operations of its own, is given back.

    Args:
        x: a DTensor, the promise of a tensor, or anything else.
        dim_of: tells the channel dim of a whole DTensor that has dims; None: all is one channel.
    """
    collectives = sys.modules.get("torch.distributed._functional_collectives")
    if collectives is not None and isinstance(x, collectives.AsyncCollectiveTensor):
        return x.trigger_wait()  # type: ignore[no-any-return]
    placed = sys.modules.get("torch.distributed.tensor")
    if placed is None or not isinstance(x, placed.DTensor):
        if type(x) is nn.Parameter or type(x).__torch_dispatch__ is not Tensor.__torch_dispatch__:
            return x
        with torch._C.DisableTorchFunctionSubclass():
            return x.detach()
    dim = dim_of(x) if x.dim() else None
    for placement in x.placements:
        if placement.is_partial():
            return "is a DTensor of partial sums"
        along = getattr(placement, "dim", None)  # a strided shard denies that it is_shard()
        if along is not None and dim is not None and (along - dim) % x.dim() == 0:
            return "is a DTensor sharded along its channels"
    return x.to_local()  # type: ignore[no-any-return]


def why_skipped(x: Tensor | None, output: object) -> str | None:
    """Tell why the tensor found in an output has no statistics, or None if it has."""
    if x is None:
        return f"holds no tensor ({type(output).__name__})"
    if type(x) not in (Tensor, nn.Parameter):
        return f"is a {type(x).__name__}, not a plain tensor"
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        return TRANSFORMED
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return "is being traced by torch.jit"
    why = why_unmeasurable(x)
    return "is a single number" if why is None and x.dim() == 0 else why
