"""A `GraphRow` is a row of a layer as a compiled graph measures it, its memory an argument.

Whether a layer can be measured so is decided when the graph is made, from a tensor without data.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from fmstats.backends.base import Meter, why_unmeasurable
from fmstats.graph_ops import fold, lowering
from fmstats.graph_ops.targets import Shortcut, Target, number_of, why_no_kernel
from fmstats.models.output_tensors import TRANSFORMED
from fmstats.statistic.thresholds import Thresholds
from fmstats.tracking.aside import aside
from fmstats.tracking.gates import Gate, StandIn, Updatable
from fmstats.tracking.layers import Layer

ONE_CHANNEL = -1  # the channel dim of tensors that are one channel


@dataclass(frozen=True)
class GraphRow:
    """A `GraphRow` holds what the operation in the graph is told.

    Attributes:
        state: the memory of the row's state on the device of its tensors, which the graph is
            handed; None where it is not to be, for a CPU.
        clock: the words of the clock there.
        target: the number of the row.
        channel_dim: of the tensors, or `ONE_CHANNEL`.
        thresholds: what counts as zero and as saturated.
    """

    state: Tensor | None
    clock: Tensor
    target: int
    channel_dim: int
    thresholds: Thresholds


class RowInGraphs:
    """This target measures a row in graphs; it is held by the row.

    Tensors that are as the last one go past it, straight to the native plan of its meter.

    Attributes:
        number: by which graphs find it.
    """

    def __init__(self, hook: Target, gate: Gate, meter: Meter) -> None:
        self._hook = weakref.ref(hook)
        self._state, self._clock = meter.state.held[0], meter.clock.words
        self.number = number_of(self)
        self._shortcut: Shortcut | None = None
        if meter.plan is not None and why_no_kernel(meter.state.words.device.type) is None:
            memory = (self._state, self._clock)
            self._shortcut = Shortcut(self.number, meter.plan, memory, gate.words)

    def update(self, x: Tensor) -> None:
        """Measure a tensor that is not as the last one into the memory of the row."""
        hook = self._hook()
        if hook is not None:
            hook.observe(x, False)

    def measure(self, x: Tensor, state: Tensor, clock: Tensor) -> None:
        """Measure a tensor that is not as the last one into memory of a graph.

        Args:
            x: the tensor.
            state: the memory of the row, or a copy that the graph takes for it from now on.
            clock: the clock, or such a copy.
        """
        if self._hook() is None:
            return
        pairs = ((self._state, state), (self._clock, clock))
        copies = [(own, copy) for own, copy in pairs if own.data_ptr() != copy.data_ptr()]
        with aside(), torch.no_grad():
            for own, copy in copies:
                own.copy_(copy)
        self.update(x)
        with aside(), torch.no_grad():
            for own, copy in copies:
                copy.copy_(own)

    def take_calls(self) -> int:
        """Return how many tensors went past the hook since this was asked last."""
        return 0 if self._shortcut is None else self._shortcut.take_calls()

    def close(self) -> None:
        """Measure no more, whatever graphs go on calling."""
        if self._shortcut is not None:
            self._shortcut.close()


def prepare(layer: Updatable, x: Tensor, gate: Gate, hook: Target) -> GraphRow | str | None:
    """Prepare the row of a layer that a graph is to measure such tensors in.

    Args:
        layer: what the hook updates.
        x: a tensor as the graph will have it, without data.
        gate: of the tracker.
        hook: the hook, for tensors that turn out to be otherwise.

    Returns:
        The row; else why the graph has to hand its tensors to Python, in words that follow
        "measured by Python"; None if such tensors have no statistics, which the layer is told.
    """
    while isinstance(layer, StandIn):
        if x.device.type == "cpu":
            return layer.why_in_python
        layer = layer.layer
    if not isinstance(layer, Layer):
        return "for the rows of each call"
    if layer.spec.on_error == "raise":
        return "for on_error='raise'"
    if gate.positions is not None and gate.positions.asks:
        return "for the mask or the groups"
    if torch.utils._python_dispatch.is_traceable_wrapper_subclass(x):
        return "as a subclass of torch.Tensor"
    if _is_batched(x):
        layer.skip(TRANSFORMED)
        return None
    why = why_unmeasurable(x) or ("is a single number" if x.dim() == 0 else None)
    if why is not None:
        layer.skip(why)
        return None
    dim = layer.channels.find(_sizes_of(x), None)
    width = 1 if dim is None else x.shape[dim]
    if not isinstance(width, int):
        return "for a number of channels that changes"
    if width == 0:
        layer.skip("is empty")
        return None
    with aside():
        return _prepare(layer, x, dim, width, gate, hook)


def _is_batched(x: Tensor) -> bool:
    """Tell whether a tensor is one of those that torch.vmap holds as one, under any transform."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            return True
        x = functorch.get_unwrapped(x)
    return False


def _sizes_of(x: Tensor) -> list[int]:
    """Return the sizes of a tensor without data, as of the one that the graph was made with."""
    return [size if isinstance(size, int) else int(size.node.hint or 0) for size in x.shape]


def _prepare(
    layer: Layer, x: Tensor, dim: int | None, width: int, gate: Gate, hook: Target
) -> GraphRow | str:
    row = layer.row_of(width)
    if row is None:
        return "for its many widths"
    meter = row.meter_on(x.device)
    if meter.state.memory is None:
        return "for a state that was made elsewhere"
    target = row.in_graphs.get(x.device)
    if target is None:
        target = row.in_graphs[x.device] = RowInGraphs(hook, gate, meter)
    if meter.state.measures:  # kernels of Inductor's have sums and counts alone
        lowering.declined[target.number] = (
            f"is also measured for {', '.join(meter.state.measures.names)}"
        )
    row.note_in_graphs(tuple(_sizes_of(x)), x.dtype, dim)
    if meter.backend.in_graphs:
        gate.clocks.note_gated(meter.clock)
        if x.device.type != "cpu":
            fold.prepare(x.device)  # what kernels of Inductor's reduce the tensors to
    on_host = x.device.type == "cpu" and not meter.backend.in_graphs
    channel_dim = ONE_CHANNEL if dim is None else dim
    return GraphRow(
        state=None if on_host else meter.state.memory,
        clock=meter.clock.words,
        target=target.number,
        channel_dim=channel_dim,
        thresholds=row.thresholds,
    )
