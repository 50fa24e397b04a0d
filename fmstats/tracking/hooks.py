"""These hooks hand layers what they measure.

Hooks hold layers and a gate, never the tracker, so that a forgotten tracker can be collected. In a
deep copy or a pickle of a tracked model each hook does nothing: the copy is not tracked. Within a
backward pass they do nothing either: there forward passes are those of activation checkpointing,
which has run them before. Nor do they in a pass that torch.jit traces: its inputs are an example,
not data.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from fmstats.models.output_tensors import first_tensor
from fmstats.tracking import compiled as graph
from fmstats.tracking.gates import Gate, Updatable
from fmstats.tracking.grad_scale import GradScale
from fmstats.tracking.per_call import PerCall
from fmstats.tracking.sampling import Sampling, Timed, clock

# Called by every hook, so without a Python function around them. Dynamo, which traces hooks into
# graphs, takes the first for true.
_is_traced = torch.compiler.is_dynamo_compiling
_backward_pass = torch._C._current_graph_task_id
_NO_BACKWARD_PASS = -1
# What torch.jit.trace sets while it traces a module: a hook asks this faster than torch itself.
_jit = torch.jit._trace


class Handle(Protocol):
    """A handle takes a hook away."""

    def remove(self) -> None:
        """Take it away; may be called twice."""


class _NoHook:
    """The hook of a copied model does nothing."""

    def __call__(self, *_: object) -> None:
        """Measure nothing."""


class _Hook:
    def __init__(self, op_token: Tensor) -> None:
        self._op_token, self._number = op_token, graph.number_of(self)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[type[_NoHook], tuple[()]]:
        return _NoHook, ()


class LayerHook(_Hook):
    """What feeds a layer, which is `layer`."""

    def __init__(self, layer: Updatable, gate: Gate, op_token: Tensor) -> None:
        super().__init__(op_token)
        self.layer, self._gate = layer, gate

    def time(self, spend: Callable[[float], None]) -> None:
        """Tell `spend` how many seconds each update takes, from now on."""
        self.layer = Timed(self.layer, spend)

    def observe(self, x: Tensor | None, training: bool) -> None:
        """Do what the hook does, in a graph."""
        if self._gate.open and _backward_pass() == _NO_BACKWARD_PASS:
            self.layer.update(x)

    def _trace(self, output: object) -> None:
        x = first_tensor(output)
        if x is not None:
            graph.observe(x, self._op_token, self._number)


class OutputHook(LayerHook):
    """This forward hook measures the output."""

    def __call__(self, module: nn.Module, args: object, output: object) -> None:
        """Measure the output, if the gate is open."""
        if _is_traced():
            self._trace(output)
        elif (
            self._gate.open
            and _backward_pass() == _NO_BACKWARD_PASS
            and _jit._trace_module_map is None
        ):
            self.layer.update(output)


class InputHook(LayerHook):
    """This forward pre-hook, registered with_kwargs, measures the first float input."""

    def __call__(self, module: nn.Module, args: object, kwargs: object) -> None:
        """Measure the input, if the gate is open."""
        if _is_traced():
            self._trace((args, kwargs))
        elif (
            self._gate.open
            and _backward_pass() == _NO_BACKWARD_PASS
            and _jit._trace_module_map is None
        ):
            self.layer.update((args, kwargs))


class GradientHook(LayerHook):
    """This forward hook has the gradient measured that later flows back into the output.

    The tensor is hooked, not the module, so that what works on the output in place may do so. A
    recomputed output is hooked as well: under reentrant checkpointing the gradient flows into that
    one alone, otherwise into the first one alone.
    """

    def __init__(self, layer: Updatable, gate: Gate, op_token: Tensor, scale: GradScale) -> None:
        super().__init__(layer, gate, op_token)
        self._scale = scale
        self._on_leaf: RemovableHandle | None = None

    def __call__(self, module: nn.Module, args: object, output: object) -> None:
        """Hook the output, if it has a gradient and the gate is open."""
        if _is_traced():
            self._trace(output)
        elif self._gate.open and _jit._trace_module_map is None:
            layer = self.layer.claim()
            try:
                self._hook(layer, first_tensor(output))
            except Exception as error:
                layer.fail(error)

    def _hook(self, layer: Updatable, x: Tensor | None) -> None:
        if x is None or not x.requires_grad:
            layer.skip("has no gradient")
            return
        handle = x.register_hook(lambda gradient: self._update(layer, gradient))  # type: ignore[no-untyped-call]
        if x.is_leaf:  # a parameter, which stays: it would be hooked once more in each pass
            self.remove()
            self._on_leaf = handle

    def _update(self, layer: Updatable, gradient: Tensor) -> None:
        if self._gate.closed:
            return
        try:
            layer.rescale(self._scale.now())
        except Exception as error:
            layer.fail(error)
        else:
            layer.update(gradient)

    def remove(self) -> None:
        """Leave the parameter that was hooked last, if it was one."""
        if self._on_leaf is not None:
            self._on_leaf.remove()
            self._on_leaf = None

    def observe(self, x: Tensor | None, training: bool) -> None:
        """Skip the layer: in a graph gradients are out of reach."""
        self.layer.skip("flows within a compiled graph: run the model without torch.compile")


class PassHook(_Hook):
    """This forward pre-hook of the tracked model counts its passes and samples them.

    Attributes:
        passes, measured: forward passes begun in the modes asked for, and those of them that
            hooks were to measure.
        sampling: which passes are taken.
    """

    def __init__(
        self,
        gate: Gate,
        sampling: Sampling,
        per_call: Sequence[PerCall],
        op_token: Tensor,
        when: str = "always",
    ) -> None:
        super().__init__(op_token)
        self._gate, self.sampling, self._per_call = gate, sampling, per_call
        self._when = when
        self._thread = threading.local()  # each thread's passes begin and end for themselves
        self.passes = self.measured = 0

    def __call__(self, module: nn.Module, args: object) -> None:
        """Begin a forward pass."""
        if _is_traced():
            graph.mark_pass_boundary(self._op_token, self._number, module.training)
        else:
            self.observe(None, module.training)

    def observe(self, x: Tensor | None, training: bool) -> None:
        """Begin a forward pass, also in a graph."""
        if self._gate.paused or self._gate.closed or _backward_pass() != _NO_BACKWARD_PASS:
            return
        if torch._C._is_tracing():
            self._gate.set(sampled=False)
            return
        if self._when != "always" and training != (self._when == "train"):
            self._gate.set(sampled=False)
            return
        taken = self.sampling.take()
        self._gate.set(sampled=taken)
        self.passes += 1
        self.measured += taken
        for layer in self._per_call:
            layer.begin_pass()
        self._thread.began = clock() if self.sampling.timed else None

    def end(self) -> None:
        """End a forward pass of this thread, for a budget."""
        began = getattr(self._thread, "began", None)
        if began is not None:
            self.sampling.end(clock() - began)
            self._thread.began = None

    def reset(self) -> None:
        """Count from 0."""
        self.passes = self.measured = 0
        self.sampling.reset()
        self._gate.set(sampled=True)


class EndHook(_Hook):
    """This forward hook of the tracked model ends its passes, for a budget."""

    def __init__(self, passes: PassHook, op_token: Tensor) -> None:
        super().__init__(op_token)
        self._passes = passes

    def __call__(self, module: nn.Module, args: object, output: object) -> None:
        """End a forward pass."""
        if _is_traced():
            graph.mark_pass_boundary(self._op_token, self._number, module.training)
        else:
            self._passes.end()

    def observe(self, x: Tensor | None, training: bool) -> None:
        """End a forward pass, in a graph."""
        self._passes.end()


def register(
    module: nn.Module, of: str, layer: Updatable, gate: Gate, op_token: Tensor, scale: GradScale
) -> tuple[LayerHook, list[Handle]]:
    """Hook a module, and return the hook and what removes it."""
    if of == "input":
        before = InputHook(layer, gate, op_token)
        return before, [module.register_forward_pre_hook(before, with_kwargs=True)]
    if of == "output":
        after = OutputHook(layer, gate, op_token)
        return after, [module.register_forward_hook(after)]
    gradients = GradientHook(layer, gate, op_token, scale)
    return gradients, [module.register_forward_hook(gradients), gradients]


@contextmanager
def timed(hooks: Sequence[LayerHook], spend: Callable[[float], None]) -> Iterator[None]:
    """Time these hooks within it."""
    layers = [hook.layer for hook in hooks]
    for hook in hooks:
        hook.time(spend)
    try:
        yield
    finally:
        for hook, layer in zip(hooks, layers, strict=True):
            hook.layer = layer


for _kind in (OutputHook, InputHook, GradientHook, PassHook, EndHook):
    graph.run_as_is(_kind.__call__)
