"""These hooks hand layers what they measure.

Hooks hold layers and a gate, never the tracker, so that a forgotten tracker can be collected. In a
deep copy or a pickle of a tracked model each hook does nothing: the copy is not tracked. Within a
backward pass they do nothing either: there forward passes are those of activation checkpointing,
which has run them before. Nor do they in a pass that torch.jit traces: its inputs are an example,
not data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from fmstats.graph_ops.targets import number_of
from fmstats.models.output_tensors import first_tensor
from fmstats.operations.channel_flow import Origin
from fmstats.operations.graphs import GraphOperations
from fmstats.operations.position_flow import PositionFlow
from fmstats.tracking import compiled as graph
from fmstats.tracking.gates import Gate, Updatable
from fmstats.tracking.grad_scale import GradScale
from fmstats.tracking.graph_rows import GraphRow, prepare
from fmstats.tracking.sampling import Timed

# Called by every hook, so without a Python function around them. Dynamo, which traces hooks into
# graphs, takes the first for true.
is_traced = torch.compiler.is_dynamo_compiling
backward_pass = torch._C._current_graph_task_id
NO_BACKWARD_PASS = -1
_is_traced_by_jit = torch._C._is_tracing


class Handle(Protocol):
    """A handle takes a hook away."""

    def remove(self) -> None:
        """Take it away; may be called twice."""


class _NoHook:
    """The hook of a copied model does nothing."""

    def __call__(self, *_: object) -> None:
        """Measure nothing."""


class Hook:
    """A hook is found by graphs by its number; a copy of it does nothing."""

    __slots__ = ("__weakref__", "number")

    def __init__(self) -> None:
        self.number = number_of(self)

    @property
    def operations(self) -> GraphOperations | None:
        """Return the operations of the model that are layers; None if none shall be."""
        return None

    @property
    def positions(self) -> PositionFlow | None:
        """Return where the positions of the pass of this thread are, if that is asked for."""
        return None

    def expect(self, count: int, origin: Origin) -> None:
        """Do nothing: only hooks of layers are handed tensors."""

    def expect_positions(self, x: Tensor, flow: PositionFlow) -> None:
        """Do nothing: only hooks of layers are handed tensors."""

    def prepare(self, x: Tensor | None) -> GraphRow | str | None:
        """Measure nothing: only hooks of layers do."""
        return None

    def skip(self, why: str) -> None:
        """Do nothing: only hooks of layers are handed tensors."""

    def owns(self, clock: Tensor) -> bool:
        """Tell whether a clock is of its tracker: only hooks of passes have to know."""
        return False

    def show_time(self, tokens: Sequence[Tensor]) -> None:
        """Do nothing: only hooks of passes change the time."""

    def shorten(self) -> None:
        """Do nothing: only passes have a shorter way."""

    def __reduce__(self) -> tuple[type[_NoHook], tuple[()]]:
        return _NoHook, ()


class LayerHook(Hook):
    """What feeds a layer, which is `layer`.

    Attributes:
        before: it is called before the layer runs, with what goes in.
    """

    __slots__ = ("_gate", "layer")
    before = False

    def __init__(self, layer: Updatable, gate: Gate) -> None:
        super().__init__()
        self.layer, self._gate = layer, gate

    def time(self, spend: Callable[[float], None]) -> None:
        """Tell `spend` how many seconds each update takes, from now on."""
        self.layer = Timed(self.layer, spend)

    @property
    def operations(self) -> GraphOperations | None:
        """Return the operations of the model that are layers; None if none shall be."""
        return None if self._gate.watch is None else self._gate.watch.operations

    @property
    def positions(self) -> PositionFlow | None:
        """Return where the positions of the pass of this thread are, if that is asked for."""
        reader = self._gate.positions
        current = None if reader is None else reader.current
        return current if isinstance(current, PositionFlow) else None

    def expect(self, count: int, origin: Origin) -> None:
        """Note where the channels of tensors of a graph are, while it is made."""
        self.layer.expect(count, origin)

    def expect_positions(self, x: Tensor, flow: PositionFlow) -> None:
        """Note where positions lie in tensors of a graph, while it is made."""
        self.layer.expect_positions(x, flow)

    def prepare(self, x: Tensor | None) -> GraphRow | str | None:
        """Return the row that a graph measures such tensors in; else why it has to call Python."""
        within = "within a graph of its own, as of a checkpoint"
        row = within if x is None else prepare(self.layer, x, self._gate, self)
        if isinstance(row, str):
            self.layer.note_in_python(row)
        return row

    def skip(self, why: str) -> None:
        """Say why a tensor of a graph is not measured."""
        if self._gate.open:
            self.layer.skip(why)

    def observe(self, x: Tensor | None, training: bool) -> None:
        """Do what the hook does, in a graph."""
        if self._gate.open and backward_pass() == NO_BACKWARD_PASS:
            self.layer.update(x)

    def __call__(self, module: object, args: object, found: object) -> None:
        """Measure the output, or before the layer what goes in."""
        raise NotImplementedError


class OutputHook(LayerHook):
    """This forward hook measures the output."""

    __slots__ = ()

    def __call__(self, module: object, args: object, output: object) -> None:
        """Measure the output, if the gate is open."""
        if is_traced():
            graph.observe(output, self.number)
        elif self._gate.open and backward_pass() == NO_BACKWARD_PASS and not _is_traced_by_jit():
            self.layer.update(output)


class InputHook(LayerHook):
    """This forward pre-hook, registered with_kwargs, measures the first float input."""

    __slots__ = ()
    before = True

    def __call__(self, module: object, args: object, kwargs: object) -> None:
        """Measure the input, if the gate is open."""
        if is_traced():
            graph.observe((args, kwargs), self.number)
        elif self._gate.open and backward_pass() == NO_BACKWARD_PASS and not _is_traced_by_jit():
            self.layer.update((args, kwargs))


class GradientHook(LayerHook):
    """This forward hook has the gradient measured that later flows back into the output.

    The tensor is hooked, not the module, so that what works on the output in place may do so. A
    recomputed output is hooked as well: under reentrant checkpointing the gradient flows into that
    one alone, otherwise into the first one alone.
    """

    __slots__ = ("_on_leaf", "_scale")

    def __init__(self, layer: Updatable, gate: Gate, scale: GradScale) -> None:
        super().__init__(layer, gate)
        self._scale = scale
        self._on_leaf: RemovableHandle | None = None

    def __call__(self, module: object, args: object, output: object) -> None:
        """Hook the output, if it has a gradient and the gate is open."""
        if is_traced():
            graph.observe(output, self.number)
        elif self._gate.open and not _is_traced_by_jit():
            layer = self.layer.claim()
            try:
                x = first_tensor(output)
                origin = None if x is None else self._gate.origin_of(x)
                if x is not None and origin is not None:
                    layer.expect(x.dim(), origin)
                reader = self._gate.positions
                flow = None if reader is None else reader.current
                if x is not None and isinstance(flow, PositionFlow) and flow.numbers.followed:
                    layer.expect_positions(x, flow)
                self._hook(layer, x, flow)
            except Exception as error:
                layer.fail(error)

    def _hook(self, layer: Updatable, x: Tensor | None, flow: PositionFlow | str | None) -> None:
        if x is None or not x.requires_grad:
            layer.skip("has no gradient")
            return
        handle = x.register_hook(lambda gradient: self._update(layer, gradient, flow))  # type: ignore[no-untyped-call]
        if x.is_leaf:  # a parameter, which stays: it would be hooked once more in each pass
            self.remove()
            self._on_leaf = handle

    def _update(self, layer: Updatable, gradient: Tensor, flow: PositionFlow | str | None) -> None:
        """Measure a gradient, whose positions are those of the output that it flows back into."""
        if self._gate.closed:
            return
        try:
            layer.rescale(self._scale.now())
        except Exception as error:
            layer.fail(error)
        else:
            if self._gate.positions is None:
                layer.update(gradient)
                return
            with self._gate.positions.during(flow):
                layer.update(gradient)

    def remove(self) -> None:
        """Leave the parameter that was hooked last, if it was one."""
        if self._on_leaf is not None:
            self._on_leaf.remove()
            self._on_leaf = None

    def prepare(self, x: Tensor | None) -> GraphRow | str | None:
        """Measure nothing, but say so when the graph runs."""
        return "to say that gradients are out of reach"

    def observe(self, x: Tensor | None, training: bool) -> None:
        """Skip the layer: in a graph gradients are out of reach."""
        self.layer.skip("flows within a compiled graph: run the model without torch.compile")


def make_hook(of: str, layer: Updatable, gate: Gate, scale: GradScale) -> LayerHook:
    """Make the hook that feeds a layer with what is measured of it."""
    if of == "input":
        return InputHook(layer, gate)
    if of == "output":
        return OutputHook(layer, gate)
    return GradientHook(layer, gate, scale)


def register(module: nn.Module, hook: LayerHook) -> list[Handle]:
    """Hook a module, and return what removes the hook."""
    if hook.before:
        return [module.register_forward_pre_hook(hook, with_kwargs=True)]
    handle = module.register_forward_hook(hook)
    return [handle, hook] if isinstance(hook, GradientHook) else [handle]


@contextmanager
def timed(hooks: Sequence[LayerHook], spend: Callable[[float], None]) -> Iterator[None]:
    """Time these hooks within it."""
    hooks = list(hooks)  # a pass may find more
    layers = [hook.layer for hook in hooks]
    for hook in hooks:
        hook.time(spend)
    try:
        yield
    finally:
        for hook, layer in zip(hooks, layers, strict=True):
            hook.layer = layer


for _kind in (OutputHook, InputHook, GradientHook):
    graph.run_as_is(_kind.__call__)
