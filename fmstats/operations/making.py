"""These rules are of operations that make channels, or that multiply them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fmstats.operations.calls import Call, Rule
from fmstats.operations.carrying import keep_shape
from fmstats.operations.labels import Label, shift


def last(call: Call, out: Tensor) -> Label | None:
    """Put the channels last."""
    return (out.dim() - 1,) if out.dim() else ()


def second(call: Call, out: Tensor) -> Label | None:
    """Put the channels in dim 1."""
    return (1,) if out.dim() > 1 else last(call, out)


def before_last(call: Call, out: Tensor) -> Label | None:
    """Put the channels before the last dim."""
    return (out.dim() - 2,) if out.dim() > 1 else ()


def attention(call: Call, out: Tensor) -> Label | None:
    """Follow the values of scaled_dot_product_attention."""
    known = call.label(call.argument(2, "value"))
    return last(call, out) if known is None else known


def multi_head(call: Call, out: Tensor) -> Label | None:
    """Tell the output by its features, and the weights, which come second, by their heads."""
    if call.place == 0:
        return last(call, out)
    return (out.dim() - 3,) if out.dim() > call.first.dim() else ()


def product(call: Call, out: Tensor) -> Label | None:
    """Follow a matrix product: rows and batches of the left operand, columns of the right one."""
    skip = 1 if call.name in ("addmm", "baddbmm", "addbmm", "addmv") else 0
    left, right = call.tensors[skip : skip + 2]
    return _multiply(call.label(left), left, call.label(right), right, out)


def _multiply(
    first: Label | None, left: Tensor, second: Label | None, right: Tensor, out: Tensor
) -> Label | None:
    n = out.dim()
    weights = first is not None or isinstance(right, nn.Parameter)
    if second is None and right.dim() == 2 and weights:
        return (n - 1,)  # by the weights of a layer: their columns are new channels
    if first is None and left.dim() == 2 and second is not None and right.dim() > 1:
        # Weights on the left mix the rows; where these are the channels, new ones take their place.
        return shift(second, n - right.dim())
    if first is None and second is None:
        return None
    if second is None and first is not None and left.dim() - 1 in first and right.dim() > 1:
        return (n - 1,)  # of weights of a layer, one matrix a sample or an expert
    found = set[int]()
    if first is not None and left.dim() > 1:
        by = n - left.dim() + (right.dim() == 1)
        found |= {dim + by for dim in first if dim != left.dim() - 1}
    if second is not None and right.dim() > 1:
        by = n - right.dim() + (left.dim() == 1)
        found |= {dim + by for dim in second if dim != right.dim() - 2}
        if right.dim() - 1 in second:  # as the values of an attention: these are its channels
            batches = {dim for dim in found if dim < n - 2 and dim - by in second}
            return tuple(sorted({n - 1, *batches}))
    return tuple(sorted(found))


def look_up(otherwise: Rule) -> Rule:
    """Make the rule of indexing: rows that are taken from a table of weights are embeddings."""

    def rule(call: Call, out: Tensor) -> Label | None:
        table, rows = call.first, call.args[1]
        found = isinstance(rows, Tensor) and not rows.dtype.is_floating_point
        if found and rows.dtype not in (torch.bool, torch.uint8) and call.label(table) is None:
            return last(call, out) if isinstance(table, nn.Parameter) and table.dim() == 2 else None
        return otherwise(call, out)

    return rule


def einsum(call: Call, out: Tensor) -> Label | None:
    """Follow the letters of the channels; those that only weights have are new channels."""
    operands = call.tensors
    equation = call.args[0]
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        return keep_shape(call, out)
    inputs, result = equation.replace(" ", "").split("->")
    spelled = list(zip(operands, inputs.split(","), strict=True))
    labels = {letters: call.label(x) for x, letters in spelled}
    if all(label is None for label in labels.values()):
        return None
    followed = {s[dim] for s, label in labels.items() for dim in label or ()}
    data = {letter for s, label in labels.items() if label is not None for letter in s}
    made = tuple(dim for dim, letter in enumerate(result) if letter not in data)
    if made and not followed <= set(result):  # the channels are multiplied away by weights
        return made
    return tuple(dim for dim, letter in enumerate(result) if letter in followed)


def before_spatial(dims: int) -> Rule:
    """Make the rule of what puts channels before this many spatial dims."""
    return lambda call, out: (out.dim() - 1 - dims,)


CONVOLUTIONS = {dims: before_spatial(dims) for dims in (1, 2, 3)}
MAKERS = {last, second, before_last, multi_head, *CONVOLUTIONS.values()}
