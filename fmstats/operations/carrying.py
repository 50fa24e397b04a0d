"""These rules are of operations whose result has its channels where their operands have them."""

from __future__ import annotations

from torch import Tensor

from fmstats.operations.calls import Call, Rule
from fmstats.operations.labels import Label, shift


def join(call: Call, out: Tensor) -> Label | None:
    """Follow the first operand with channels that is not broadcast along them."""
    found: Label | None = None
    for x in call.tensors:
        label = call.label(x)
        if label is None or x.dim() > out.dim():
            continue
        moved = shift(label, out.dim() - x.dim())
        if moved and all(out.shape[d] == s for d, s in zip(moved, _sizes(x, label), strict=True)):
            return moved
        found = found or moved
    return found


def _sizes(x: Tensor, label: Label) -> list[int]:
    return [x.shape[dim] for dim in label]


def keep(call: Call, out: Tensor) -> Label | None:
    """Follow the first operand with a label that has as many dims as the result."""
    for x in call.tensors:
        label = call.label(x)
        if label is not None and x.dim() == out.dim():
            return label
    return None


def keep_shape(call: Call, out: Tensor) -> Label | None:
    """Follow the first operand with a label that has the shape of the result: all else is new."""
    for x in call.tensors:
        label = call.label(x)
        if label is not None and x.shape == out.shape:
            return label
    return None


def norm(dim: int) -> Rule:
    """Make the rule of a norm: it follows its input; of unknown ones, the channels are in `dim`."""

    def rule(call: Call, out: Tensor) -> Label | None:
        known = call.label(call.first)
        return (dim % out.dim(),) if known is None and out.dim() > 1 else known

    return rule
