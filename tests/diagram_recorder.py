"""A recorder of forward passes that shares no code with fmstats.

It puts functions of its own in the place of those of torch, and hooks on the modules.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from compat_models import tensors_in
from torch import Tensor, nn

FUNCTIONS = (
    *("relu", "leaky_relu", "gelu", "silu", "sigmoid", "tanh", "softmax", "log_softmax"),
    *("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "interpolate"),
    *("instance_norm", "layer_norm", "scaled_dot_product_attention", "cat", "add", "mul"),
)
OPERATORS = {
    **dict.fromkeys(("__add__", "__radd__", "__iadd__"), "add"),
    **dict.fromkeys(("__mul__", "__rmul__", "__imul__"), "mul"),
}


class Step(NamedTuple):
    """What a pass does: a module without parts, or an operation in the forward of another one.

    Attributes:
        owner: the name of the module.
        kind: the type of the module, or the name of the operation.
        is_module: which of the two it is.
        output: the first float tensor that it returns, in float64, copied at once.
    """

    owner: str
    kind: str
    is_module: bool
    output: Tensor


@contextmanager
def recording(model: nn.Module) -> Iterator[list[Step]]:
    """Record all steps in the order of execution."""
    steps: list[Step] = []
    running: list[tuple[str, bool]] = []  # names of modules, and whether they have parts

    def note(owner: str, kind: str, is_module: bool, output: object) -> None:
        found = next((y for y in tensors_in(output) if y.is_floating_point()), None)
        if found is not None:
            steps.append(Step(owner, kind, is_module, found.detach().double().clone()))

    def watch(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            output = function(*args, **kwargs)
            by_torch = sys._getframe(1).f_globals["__name__"].startswith("torch.")
            # A leaf is one step; the product with a number joins nothing.
            joins = kind not in ("add", "mul") or all(isinstance(x, Tensor) for x in args[:2])
            if running and running[-1][1] and joins and not by_torch:
                note(running[-1][0], kind, False, output)
            return output

        return called

    def begin(name: str, has_parts: bool) -> Callable[..., None]:
        return lambda module, args: running.append((name, has_parts))

    def end(name: str, has_parts: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: object, output: object) -> None:
            running.pop()
            if not has_parts:
                note(name, type(module).__name__, True, output)

        return hook

    handles = []
    for name, module in model.named_modules():
        who = name or "(model)", any(True for _ in module.children())
        handles.append(module.register_forward_pre_hook(begin(*who)))
        handles.append(module.register_forward_hook(end(*who)))
    try:
        with pytest.MonkeyPatch.context() as patch:
            for space in (F, torch, Tensor):
                for name in FUNCTIONS:
                    if hasattr(space, name):
                        patch.setattr(space, name, watch(name, getattr(space, name)))
            for name, kind in OPERATORS.items():
                patch.setattr(Tensor, name, watch(kind, getattr(Tensor, name)))
            yield steps
    finally:
        for handle in handles:
            handle.remove()
