"""These rules are of operations that move, split, join, index or reduce the dims of a tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fmstats.operations.calls import Call, Rule
from fmstats.operations.carrying import join, keep
from fmstats.operations.labels import Label, insert_dim, permute, remove_dims, reshape, shift


def moves(move: Callable[[Call, Tensor, Label], Label]) -> Rule:
    """Make a rule of what moves the dims of its first operand."""

    def rule(call: Call, out: Tensor) -> Label | None:
        label = call.label(call.first)
        return None if label is None else move(call, out, label)

    return rule


def reshape_dims(call: Call, out: Tensor, label: Label) -> Label:
    """Follow view, reshape and flatten."""
    x = call.first
    return label if x.shape == out.shape else reshape(label, x.shape, out.shape)


def permute_dims(call: Call, out: Tensor, label: Label) -> Label:
    """Follow permute."""
    n = call.first.dim()
    return permute(label, [dim % n for dim in call.sizes(1, "dims", "dim")])


def transpose(call: Call, out: Tensor, label: Label) -> Label:
    """Follow an exchange of two dims."""
    names = (("dim0", "axis0"), ("dim1", "axis1"))
    n = call.first.dim()
    a, b = (
        call.argument(1 + i, some[0], call.kwargs.get(some[1])) % n for i, some in enumerate(names)
    )
    order = list(range(n))
    order[a], order[b] = b, a
    return permute(label, order)


def swap_last(call: Call, out: Tensor, label: Label) -> Label:
    """Follow an exchange of the last two dims."""
    n = call.first.dim()
    return permute(label, [*range(n - 2), n - 1, n - 2]) if n > 1 else label


def reverse_dims(call: Call, out: Tensor, label: Label) -> Label:
    """Follow `x.T`."""
    return permute(label, range(call.first.dim())[::-1])


def move_dims(call: Call, out: Tensor, label: Label) -> Label:
    """Follow movedim."""
    n = call.first.dim()
    source, target = (
        [d % n for d in ([value] if isinstance(value, int) else value)]
        for value in (call.argument(1, "source"), call.argument(2, "destination"))
    )
    order = [dim for dim in range(n) if dim not in source]
    for to, dim in sorted(zip(target, source, strict=True)):
        order.insert(to, dim)
    return permute(label, order)


def unsqueeze(call: Call, out: Tensor, label: Label) -> Label:
    """Follow unsqueeze."""
    return insert_dim(label, call.argument(1, "dim") % out.dim())


def squeeze(call: Call, out: Tensor, label: Label) -> Label:
    """Follow squeeze."""
    x = call.first
    asked = call.sizes(1, "dim") if len(call.args) > 1 or "dim" in call.kwargs else range(x.dim())
    return remove_dims(label, [d % x.dim() for d in asked if x.dim() and x.shape[d] == 1])


def align(call: Call, out: Tensor, label: Label) -> Label:
    """Follow what puts new dims before the others: expand."""
    return shift(label, out.dim() - call.first.dim())


def repeat(call: Call, out: Tensor, label: Label) -> Label:
    """Follow repeat and tile; channels in dim 0 are lost among their copies, as in a batch."""
    x = call.first
    moved = align(call, out, label)
    lost = out.dim() == x.dim() and out.shape[0] != x.shape[0]
    return tuple(dim for dim in moved if dim > 0 or not lost)


def drop_dim(call: Call, out: Tensor, label: Label) -> Label:
    """Follow what takes one entry of a dim: select, unbind."""
    return remove_dims(label, [call.argument(1, "dim", 0) % call.first.dim()])


def reduce_dims(call: Call, out: Tensor, label: Label) -> Label:
    """Follow a reduction over some dims or all."""
    x = call.first
    if out.dim() == x.dim():
        return label
    if out.dim() == 0:
        return ()
    asked = call.argument(1, "dim", call.kwargs.get("axis"))
    if call.name in ("norm", "vector_norm", "linalg_vector_norm", "linalg_norm"):
        asked = call.argument(2, "dim", call.kwargs.get("axis"))
    if isinstance(asked, Tensor) or asked is None:
        return keep(call, out) or ()
    dims = [asked] if isinstance(asked, int) else asked
    return remove_dims(label, [dim % x.dim() for dim in dims])


def reduce_or_join(call: Call, out: Tensor) -> Label | None:
    """Follow max and min, which compare two tensors or reduce one."""
    other = call.argument(1, "other")
    return join(call, out) if isinstance(other, Tensor) else moves(reduce_dims)(call, out)


def class_loss(call: Call, out: Tensor, label: Label) -> Label:
    """Follow a loss over classes, one number a target."""
    return remove_dims(label, [min(1, call.first.dim() - 1)]) if out.dim() else ()


def drop_last(call: Call, out: Tensor, label: Label) -> Label:
    """Follow what takes away the last dim."""
    return remove_dims(label, [call.first.dim() - 1]) if out.dim() < call.first.dim() else label


def stack(call: Call, out: Tensor) -> Label | None:
    """Follow stack, which puts a new dim before or among the others."""
    dim = call.argument(1, "dim", 0) % out.dim()
    labels = (call.label(x) for x in call.tensors)
    label = next((label for label in labels if label is not None), None)
    return None if label is None else insert_dim(label, dim)


def index(call: Call, out: Tensor, label: Label) -> Label:
    """Follow x[...], as NumPy defines it."""
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    consumed = sum(map(_count_consumed, index))
    rest = call.first.dim() - consumed
    plain: list[int | None] = []  # the dims of the result, None where new
    at = last = None  # where the dims of indices by tensors go, and the last such index
    apart, picked, dim = False, False, 0  # picked: the channels are among what they take
    for position, part in enumerate(_spell_out(index, rest)):
        if part is None:
            plain.append(None)
        elif isinstance(part, slice):
            plain.append(dim)
            dim += 1
        elif isinstance(part, int) and not isinstance(part, bool):
            dim += 1
        else:
            apart = apart or last not in (None, position - 1)
            at, last = len(plain) if at is None else at, position
            taken = _count_consumed(part)
            picked = picked or any(dim <= channel < dim + taken for channel in label)
            dim += taken
    if at is not None:
        at = 0 if apart else at  # as NumPy has it
        plain[at:at] = [label[0] if picked else None] * (out.dim() - len(plain))
    return tuple(i for i, was in enumerate(plain) if was is not None and was in label)


def _spell_out(index: Sequence[Any], rest: int) -> Iterator[Any]:
    """Yield the parts of an index, with a slice for each of the `rest` dims it says nothing of."""
    seen = False
    for part in index:
        if part is Ellipsis:
            seen = True
            yield from [slice(None)] * rest
        else:
            yield part
    if not seen:
        yield from [slice(None)] * rest


def _count_consumed(part: object) -> int:
    if part is None or part is Ellipsis or isinstance(part, bool):
        return 0
    if isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8):
        return part.dim()
    return 1


def unfold(call: Call, out: Tensor, label: Label) -> Label:
    """Follow Tensor.unfold, which puts the elements of windows in a new dim, the last."""
    dim = call.argument(1, "dimension") % call.first.dim()
    return (*label, out.dim() - 1) if dim in label else label


def nothing(call: Call, out: Tensor) -> Label | None:
    """Tell nothing of the result."""
    return None


def one_channel(call: Call, out: Tensor) -> Label | None:
    """Take all of the result as one channel."""
    return ()
