"""`Scripted` stands for TorchScript parts of a copied model, which take no hooks."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Scripted(nn.Module):
    """`Scripted` stands in the place of a scripted module, and takes hooks.

    What the scripted module does is its work; its own submodules have none.
    """

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        vars(self)["_script"] = script  # not a submodule: its name would be one more in the tree
        self._parameters = dict(script.named_parameters())
        self._buffers = dict(script.named_buffers())

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the script."""
        return self._script(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Read it from the script, for code that asks for more than to be run."""
        return getattr(vars(self)["_script"], name)

    def train(self, mode: bool = True) -> Scripted:
        """Set the mode of the script, too."""
        self._script.train(mode)
        return super().train(mode)


def stand_in(model: nn.Module) -> nn.Module:
    """Put `Scripted` in the places of scripted modules of a copy; returns the copy."""
    if isinstance(model, torch.jit.ScriptModule):
        return Scripted(model)
    for module in list(model.modules()):
        if not isinstance(module, torch.jit.ScriptModule | Scripted):
            children = module._modules
            for name, child in children.items():
                if isinstance(child, torch.jit.ScriptModule):
                    children[name] = Scripted(child)
    return model
