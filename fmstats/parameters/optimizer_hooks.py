"""`hook` has an optimizer tell of its steps."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Protocol

import torch


class Stepped(Protocol):
    """What is told of the steps of an optimizer."""

    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Begin a step."""

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """End a step."""


def hook(optimizer: torch.optim.Optimizer | None, told: Stepped) -> Callable[[], object]:
    """Hook an object to an optimizer, and return what removes the hooks.

    The hooks do not keep it alive, and when nobody holds it any more they are removed.
    """
    if optimizer is None:
        return lambda: None
    reference = weakref.ref(told)

    def before(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        found = reference()
        if found is not None:
            found.before_step(optimizer)

    def after(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        found = reference()
        if found is not None:
            found.after_step(optimizer)

    handles = [
        optimizer.register_step_pre_hook(before),
        optimizer.register_step_post_hook(after),
    ]
    return weakref.finalize(told, _remove_all, handles)


def _remove_all(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()
