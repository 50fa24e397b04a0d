"""Weights that are no parameters: packed for the kernels of quantized layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes


def list_packed(packed: Any) -> list[Tensor]:
    """The tensors that an object of TorchScript packs, the weights first.

    Args:
        packed: as layers hold it, for instance of type `quantized.LinearPackedParamsBase`.

    Returns:
        The weights, for a convolution (outputs, inputs, *kernel), then the biases, if any; several
        of either for a recurrent layer. Empty if it holds no tensors, or does not show them.
    """
    with _disable_current_modes():  # Unpacking makes tensors, and fails where they would be fake.
        if packed._has_method("unpack"):
            return list(_tensors(packed.unpack()))
        return list(_tensors(packed.__getstate__())) if packed._has_method("__getstate__") else []


def own_packed(module: nn.Module) -> dict[int, list[Tensor]]:
    """What a module itself holds packed, by the identity of the object that packs it."""
    values = (*vars(module).values(), *module._buffers.values())
    return {id(v): list_packed(v) for v in values if isinstance(v, torch.ScriptObject)}


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, torch.ScriptObject):
        yield from list_packed(value)
