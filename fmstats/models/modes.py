"""These contexts set how a model runs while it is looked at: its mode, and no graphs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fmstats.models.copies.tensors import has_storage
from fmstats.models.copies.undo import Saving


@contextlib.contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Set training or evaluation mode; afterwards each module is in its own mode again.

    Some models merge weights in `eval()` and part them in `train()`, which rounds: parameters and
    buffers have the very bits again that they had.
    """
    flags = [(module, module.training) for module in model.modules()]
    before = model.training
    state = _State(model)
    try:
        with state.saving:
            _switch(model, training)
        yield
    finally:
        try:
            with state.saving:
                if before != training:
                    _switch(model, before)
                for module, flag in flags:
                    if module.training != flag and _changes_more(module):
                        _switch(module, flag)
        finally:
            for module, flag in flags:
                module.training = flag
            state.put_back()


class _State:
    """This class keeps the parameters and buffers of a model, and their bytes once written into."""

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules()) if any(map(_changes_more, model.modules())) else []
        spaces: list[dict[str, Any]] = [m._parameters for m in modules]
        spaces += [m._buffers for m in modules]
        self._held = [(names, dict(names)) for names in spaces]
        tensors = {id(t): t for _, held in self._held for t in held.values() if t is not None}
        plain = [t for t in tensors.values() if has_storage(t) and t.device.type != "meta"]
        self._data = [(tensor, tensor.data) for tensor in plain]
        storages = (tensor.untyped_storage() for tensor in plain)
        self.saving = Saving({storage._cdata: storage for storage in storages})

    def put_back(self) -> None:
        """Have the modules hold the same tensors again, with the same bytes."""
        for names, held in self._held:
            names.update(held)
        for tensor, data in self._data:
            if tensor.untyped_storage()._cdata != data.untyped_storage()._cdata:
                tensor.data = data
        self.saving.put_back()


def _changes_more(module: nn.Module) -> bool:
    """Tell whether a change of mode may be more to it than a change of flags."""
    return type(module).train is not nn.Module.train or type(module).eval is not nn.Module.eval


def _switch(model: nn.Module, training: bool) -> None:
    try:
        model.train() if training else model.eval()
    except NotImplementedError:  # An exported program keeps the mode it was exported in.
        for module in model.modules():
            module.training = training


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Run what `torch.compile` made as it was before: graphs do not see new hooks."""
    if "torch._dynamo" not in sys.modules:  # slow to load, and then nothing is compiled
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
