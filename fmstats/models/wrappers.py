"""Wrappers are left out of names, and the module inside is meant.

`torch.compile`, DistributedDataParallel, FSDP and activation checkpointing put a module around the
user's one, which would otherwise be called `_orig_mod.layer1` or `module.layer1`. A parametrization
(weight norm, spectral norm) is put inside: what it computes are weights, no feature maps, and the
layer that has it is a leaf as before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn as nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

# By a class's name, so that none of their packages is imported: the attribute that is wrapped.
_INSIDE = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
    "OffloadWrapper": "_checkpoint_wrapped_module",
}
_REPLICATED = ("OptimizedModule", "DataParallel", "DistributedDataParallel")


def unwrap(module: nn.Module) -> nn.Module:
    """Return the module inside all wrappers around it; itself if there is none."""
    while (kind := _wrapper_kind(module)) is not None:
        module = getattr(module, _INSIDE[kind])
    return module


def _wrapper_kind(module: nn.Module) -> str | None:
    bases = (kind.__name__ for kind in type(module).__mro__)  # people make subclasses of DDP
    return next((name for name in bases if name in _INSIDE), None)


# By a class's name: modules that quantized layers have for their weights, and that never run.
_HOLDERS = frozenset(("LinearPackedParams", "EmbeddingPackedParams", "PackedParameter"))


def children_of(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Return the submodules that are layers, by name.

    Parametrizations are none, nor what holds the weights of a quantized layer, nor the parts of a
    script, which runs as a whole.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return
    for name, child in module._modules.items():  # named_children() gives a shared one once
        if child is None or (name == "parametrizations" and is_parametrized(module)):
            continue
        if not _holds_weights(child):
            yield name, child


def holders_of(module: nn.Module) -> Iterator[nn.Module]:
    """Return the submodules that hold the weights of a quantized layer, and lists of them."""
    for child in module._modules.values():
        if child is not None and _holds_weights(child):
            yield from child.modules()


def own_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """Return a layer's own parameters, those that its weights are computed from included."""
    yield from module.parameters(recurse=isinstance(module, torch.jit.ScriptModule))
    if is_parametrized(module):
        yield from module.get_submodule("parametrizations").parameters()


def _holds_weights(module: nn.Module) -> bool:
    if isinstance(module, nn.ModuleList) and len(module):
        return all(map(_holds_weights, module))
    kind = type(module)
    return kind.__name__ in _HOLDERS and kind.__module__.startswith("torch.ao.nn.quantized")


def unwrap_compiled(model: nn.Module) -> nn.Module:
    """Return the module that `torch.compile` was given, if `model` is what it returned.

    Calling the one runs the other: a hook belongs on the inner one, where graphs see it.
    """
    while type(model).__name__ == "OptimizedModule":
        model = model._orig_mod  # type: ignore[assignment]
    return model


def read_attribute(module: nn.Module | None, name: str) -> Any:
    """Return an attribute of a user's module; None where it has none or reading fails."""
    try:
        return getattr(module, name, None)
    except Exception:  # of a property, or of a __getattr__ of the module's own
        return None


def has_compiled_parts(model: nn.Module) -> bool:
    """Tell whether `torch.compile` or `Module.compile` was applied to it or to a part."""
    return any(
        type(module).__name__ == "OptimizedModule"
        or read_attribute(module, "_compiled_call_impl") is not None
        for module in model.modules()
    )


def unwrap_replicated(model: nn.Module) -> nn.Module:
    """Return the module inside DataParallel, DDP and `torch.compile`.

    It computes the same on one device. Checkpointing and FSDP, which keep other memory, stay.
    """
    while (kind := _wrapper_kind(model)) in _REPLICATED:
        model = getattr(model, _INSIDE[kind])
    return model


def named_modules(model: nn.Module, remove_duplicate: bool = True) -> dict[str, nn.Module]:
    """Yield named modules without wrappers, their part of a name, and parametrizations."""
    return dict(_walk(model, "", set(), remove_duplicate))


def hash_structure(model: nn.Module) -> str:
    """Return SHA-256, in hex, over names and types of modules and shapes of parameters.

    Wrappers, dtypes, devices and the values of parameters make no difference.
    """
    rows = []
    # FSDP of this kind leaves each rank another part of the parameters, in shapes of its own.
    split = any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())
    for name, module in named_modules(model).items():
        shapes = [
            (key, None if split or is_lazy(parameter) else list(parameter.shape))
            for key, parameter in module.named_parameters(recurse=False)
        ]
        rows.append((name, type(module).__name__, shapes))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _walk(
    module: nn.Module, name: str, seen: set[int], remove_duplicate: bool
) -> Iterator[tuple[str, nn.Module]]:
    module = unwrap(module)
    if id(module) in seen:
        return
    seen.add(id(module))
    yield name, module
    for child_name, child in children_of(module):
        inner = f"{name}.{child_name}" if name else child_name
        yield from _walk(child, inner, seen, remove_duplicate)
    if not remove_duplicate:  # `seen` are those around it alone: some modules hold each other
        seen.remove(id(module))
