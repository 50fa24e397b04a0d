"""Operations stand for the hooks in graphs that `torch.compile` makes.

A hook that Dynamo traces becomes one opaque operation, which runs the hook's eager code when the
graph runs: no graph break, no guard on whether hooks measure now, hence no recompilation by
`pause()` or `every`. The operations declare that they change one tensor, `_op_token`, so that none
is left out and they keep their order; what they change indeed is on the other side of a number,
which stands for a hook of this process.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import _disable_current_modes

from fmstats.graph_ops.directly import call_directly
from fmstats.graph_ops.library import AS_IT_LIES, NO_CUDA_GRAPHS, library, run_as_is
from fmstats.graph_ops.lowering import when_inductor_comes
from fmstats.graph_ops.targets import Target, find_target, shorten_passes
from fmstats.models.output_tensors import TRANSFORMED, first_tensor
from fmstats.operations.channel_flow import Origin
from fmstats.operations.graph_positions import GraphPositions
from fmstats.operations.graphs import GraphOperations, add_operations, current_graph, is_last
from fmstats.operations.places import modules_around
from fmstats.operations.position_flow import PositionFlow
from fmstats.tracking.graph_inputs import as_given, hand_inputs
from fmstats.tracking.graph_rewriting import measure_in_graph
from fmstats.tracking.graph_rows import GraphRow

__all__ = ["Hooked", "mark_pass_boundary", "observe", "run_as_is"]


class Hooked(Target, Protocol):
    """A hook, as graphs are made with it."""

    @property
    def operations(self) -> GraphOperations | None:
        """Return the operations of its model that are layers; None if none shall be."""

    @property
    def positions(self) -> PositionFlow | None:
        """Return where the positions of the pass of this thread are, if that is asked for."""

    def expect(self, count: int, origin: Origin) -> None:
        """Note where the channels are of tensors of so many dims that it will be handed."""

    def expect_positions(self, x: Tensor, flow: PositionFlow) -> None:
        """Note where positions lie in a tensor that it will be handed, here without data."""

    def skip(self, why: str) -> None:
        """Say why a tensor of a graph is not measured."""

    def prepare(self, x: Tensor | None) -> GraphRow | str | None:
        """Return the row that a graph is to measure such tensors in.

        Else why it has to hand them to the hook, in words that follow "measured by Python"; None
        if they are not measured at all. `x` is None for a tensor of a graph within the graph.
        """

    def owns(self, clock: Tensor) -> bool:
        """Tell whether a clock is of the tracker whose passes it counts."""


# One for all trackers: as an attribute of each hook it would be guarded hook by hook. Modes of
# whoever imports this would make it a fake tensor, which no graph could run with.
with torch.inference_mode(False), _disable_current_modes():
    _op_token = torch.zeros(1, dtype=torch.int64, device="cpu")
# As torch._dynamo.mark_static_address does, which is not to be imported: a graph may change it and
# be a CUDA graph all the same.
_op_token._dynamo_static_input_type = "unguarded"  # type: ignore[attr-defined]
# The operations of all models that are tracked: who taps is none of a module's hooks.
tapping: weakref.WeakSet[Any] = weakref.WeakSet()
# What is left of these operations, once rows are measured in the graph, may be in a CUDA graph.
library.define("tap(Tensor x, Tensor(a!) op_token, str name) -> ()", tags=NO_CUDA_GRAPHS)
library.define(
    "hand_over(Tensor x, Tensor(a!) op_token, int target) -> ()",
    tags=(*NO_CUDA_GRAPHS, *AS_IT_LIES),
)
library.define(
    "mark_pass_boundary(Tensor(a!)[] tokens, int target, bool training) -> ()", tags=NO_CUDA_GRAPHS
)
library.define("begin_pass_in_graph(Tensor(a!)[] tokens, int target, bool training) -> ()")


def store_in_order(hooks: dict[int, Any]) -> None:
    """Store hooks in the order in which they are called: Dynamo's guards number them as stored.

    That of an `OrderedDict` is another one where a hook was put before the others.
    """
    if list(dict.keys(hooks)) != list(hooks):
        for number in list(hooks):
            hooks[number] = hooks.pop(number)


def observe(output: object, target: int) -> None:
    """Hand the tensor of an output to a hook, in a graph."""
    # Dynamo takes milliseconds for each call and each operation that it traces.
    x = output if isinstance(output, Tensor) else first_tensor(output)
    if x is not None and not _is_exporting():
        torch.ops.fmstats.hand_over(x.detach() if x.requires_grad else x, _op_token, target)


def mark_pass_boundary(target: int, training: bool) -> None:
    """Tell a hook that a pass begins or ends, in a graph."""
    if not _is_exporting():
        torch.ops.fmstats.mark_pass_boundary([_op_token], target, training)


def begin_positions(args: Sequence[object], kwargs: Mapping[str, object], target: int) -> None:
    """Hand the inputs of a pass to the hook that reads which of their positions count."""
    if not _is_exporting():
        hand_inputs(args, kwargs, _op_token, target)


def tap(x: Tensor, name: str) -> None:
    """Hand `x` to whoever tracks the model, in a graph, under a name."""
    if not _is_exporting():
        torch.ops.fmstats.tap(x.detach(), _op_token, name)


def _is_exporting() -> bool:
    """Tell whether the graph is for torch.export: it would hold a number of this process."""
    # From torch 2.7; Dynamo takes is_exporting() for true in all graphs up to 2.11.
    return getattr(torch.compiler, "_is_exporting_flag", False)


@run_as_is
def _observe(x: Tensor, op_token: Tensor, target: int) -> None:
    hook = find_target(target)
    if hook is not None:
        hook.observe(x, False)


@run_as_is
def _mark_pass_boundary(tokens: list[Tensor], target: int, training: bool) -> None:
    hook: Any = find_target(target)
    if hook is not None:
        hook.observe(None, training)
        hook.show_time(tokens)
        if shorten_passes(_mark_pass_boundary):
            hook.shorten()


def _pass_over(x: Tensor, op_token: Tensor, target: int) -> None:
    """Measure nothing within torch.vmap: there tensors have no memory of their own."""
    if not torch._C._functorch.is_batchedtensor(x):  # it is the same for the whole batch
        with torch._C._ExcludeDispatchKeyGuard(
            torch._C.DispatchKeySet(torch._C.DispatchKey.FuncTorchBatched)
        ):
            torch.ops.fmstats.hand_over(x, op_token, target)
        return
    hook = find_target(target)
    if hook is not None:
        hook.skip(TRANSFORMED)


library.impl("hand_over", _pass_over, "FuncTorchBatched")
library.impl("tap", lambda x, op_token, name: None, "FuncTorchBatched")
# Hooks have taken its place in every graph.
library.impl("tap", lambda x, op_token, name: None, "CompositeExplicitAutograd")
library.impl("hand_over", _observe, "CompositeExplicitAutograd")
for _name in ("mark_pass_boundary", "begin_pass_in_graph"):
    library.impl(_name, _mark_pass_boundary, "CompositeExplicitAutograd")
    call_directly(_name, _mark_pass_boundary)


class _Graph:
    """What is noted of a graph while Dynamo makes it: the hooks that it calls."""

    def __init__(self, traced: int, own: Callable[[str], object]) -> None:
        self.hooks: dict[int, Hooked] = {}
        self.positions = GraphPositions()
        self._traced = traced  # the number of the module whose forward pass it is of
        self._own = own  # is told of buffers

    def finish(self, module: fx.GraphModule) -> None:
        """Add what is measured beside modules to the graph, before it is compiled."""
        if self.positions.flow is None:  # the hook of the pass was called outside of the graph
            flows = (hook.positions for hook in self.hooks.values())
            flow = next((flow for flow in flows if flow is not None), None)
            if flow is not None:
                self.positions.note_inputs(module.graph, flow)
        of_hooks = (hook.operations for hook in self.hooks.values())
        found = {id(some): some for some in (*of_hooks, *tapping) if some is not None}
        operations = torch.ops.fmstats
        try:
            add_operations(
                module,
                self.hooks,
                list(found.values()),
                operations.hand_over,
                operations.tap,
                self._traced,
                self.positions,
            )
            measure_in_graph(module, _prepare, _owns, self._own, _leave_out)
            when_inductor_comes()
        except Exception as error:  # of what is not public: the graph is as it was, or whole
            warnings.warn(
                f"fmstats does not measure functional operations of a compiled model: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )


def _prepare(number: int, x: Tensor | None) -> GraphRow | str | None:
    hook: Hooked | None = find_target(number)
    return "for what is gone" if hook is None else hook.prepare(x)


def _leave_out(number: int) -> None:
    hook: Hooked | None = find_target(number)
    if hook is not None:
        hook.skip("is within a branch or a loop of torch's, as of torch.cond, in a compiled graph")


def _owns(number: int, clock: Tensor) -> bool:
    hook: Hooked | None = find_target(number)
    return hook is not None and hook.owns(clock)


def _note(x: Tensor, op_token: Tensor, target: int) -> None:
    """Note that a graph calls a hook, while Dynamo makes it."""
    output, hook = current_graph(), find_target(target)
    if output is not None and hook is not None and is_last(output, "fmstats.hand_over"):
        _notes_of(output).hooks[target] = hook


def _note_tap(x: Tensor, op_token: Tensor, name: str) -> None:
    """Note that a graph taps a tensor, while Dynamo makes it."""
    output = current_graph()
    if output is not None and is_last(output, "fmstats.tap"):
        _notes_of(output)


def _note_positions(inputs: list[Tensor], op_token: Tensor, names: str, target: int) -> None:
    """Note where the positions of a graph are in its inputs, while Dynamo makes it."""
    output, hook = current_graph(), find_target(target)
    if output is not None and hook is not None and is_last(output, "fmstats.begin_positions"):
        positions = _notes_of(output).positions
        try:
            found = hook.sketch_positions(*as_given(positions.plain(inputs), names))
        except Exception:  # layers say that they do not know
            found = None
        positions.flow = positions.flow or found


def _notes_of(output: Any) -> _Graph:
    graph: _Graph | None = getattr(output, "_fmstats_graph", None)  # it cannot be hashed
    if graph is None:
        from torch._dynamo.source import ConstantSource

        sources = output.param_name_to_source

        def own(name: str) -> None:
            sources[name] = ConstantSource(source_name=name)  # it is guarded by nothing

        graph = output._fmstats_graph = _Graph(id(next(modules_around(), None)), own)
        output.add_graph_finalizer(graph.finish)
    return graph


torch.library.register_fake("fmstats::hand_over", _note, lib=library)
torch.library.register_fake("fmstats::tap", _note_tap, lib=library)
torch.library.register_fake("fmstats::begin_positions", _note_positions, lib=library)
for _name in ("mark_pass_boundary", "begin_pass_in_graph"):
    torch.library.register_fake(f"fmstats::{_name}", lambda *_: None, lib=library)
