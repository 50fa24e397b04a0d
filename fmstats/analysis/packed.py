"""Find weights that are not parameters, but packed for the kernels of quantized layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes


def list_packed(packed: Any) -> list[Tensor]:
    """List the tensors that an object of TorchScript packs, the weights first.

    Args:
        packed: as layers hold it, for instance of type `quantized.LinearPackedParamsBase`.

    Returns:
        The weights, for a convolution (outputs, inputs, *kernel), then the biases, if any; several
        of either for a recurrent layer. Empty if it holds no tensors, or does not show them.
    """
    with _disable_current_modes():  # Unpacking makes tensors, and fails where they would be fake.
        if packed._has_method("unpack"):
            return list(_tensors(packed.unpack()))
        found = list(_tensors(packed.__getstate__())) if packed._has_method("__getstate__") else []
    # A recurrent layer has its biases, and packs them beside its weights as well.
    return list({(t.data_ptr(), t.shape): t for t in found}.values())


def list_constants(script: Any) -> list[Tensor]:
    """List the floating tensors that a frozen `ScriptModule` has as weights, without scalars."""
    nodes = script.graph.findAllNodes("prim::Constant")
    values = (n.t("value") for n in nodes if n.hasAttribute("value") and n.kindOf("value") == "t")
    return [t for t in values if t.dim() and (t.is_floating_point() or t.is_complex())]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, torch.ScriptObject):
        yield from list_packed(value)
