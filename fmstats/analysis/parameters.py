"""List a model's weights, layer by layer: parameters, and weights packed for kernels.

Quantized layers hold their weights in objects of TorchScript, frozen programs as constants.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fmstats.analysis.packed import list_constants, list_packed
from fmstats.analysis.storages import list_dense
from fmstats.models.wrappers import holders_of, named_modules, own_parameters


@dataclass(frozen=True)
class Weights:
    """Describes one parameter, or what one object packs.

    Attributes:
        elements: of all its tensors; of a sparse one, zeros included.
        bytes: of the memory that they take.
        trainable: whether it has a gradient.
    """

    elements: int
    bytes: int
    trainable: bool


def own_weights(module: nn.Module) -> dict[Hashable, Weights]:
    """Return a layer's own weights, by the identity of the parameter or packing object."""
    own: dict[Hashable, Weights] = {
        id(p): _measure([p], p.requires_grad) for p in own_parameters(module)
    }
    for holder in (module, *holders_of(module)):
        for value in vars(holder).values():
            if isinstance(value, torch.ScriptObject):
                own[id(value)] = _measure(list_packed(value), False)
    if isinstance(module, torch.jit.ScriptModule):
        own[id(module), "constants"] = _measure(list_constants(module), False)
    return {key: weights for key, weights in own.items() if weights.elements}


def all_weights(model: nn.Module) -> list[Weights]:
    """Return the weights of all modules, shared ones once."""
    found: dict[Hashable, Weights] = {}
    for module in named_modules(model).values():
        found |= own_weights(module)
    # What wrappers hold themselves, as FSDP does.
    outside = (p for p in model.parameters() if id(p) not in found)
    return [*found.values(), *(_measure([p], p.requires_grad) for p in outside)]


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors; of sparse ones, the bytes that are stored."""
    return sum(dense.numel() * dense.itemsize for t in tensors for dense in list_dense(t))


def _measure(tensors: Iterable[Tensor], trainable: bool) -> Weights:
    listed = list(tensors)
    return Weights(sum(t.numel() for t in listed), bytes_of(listed), trainable)
