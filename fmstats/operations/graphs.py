"""These functions look at the graphs that Dynamo makes, while it makes them.

The channels of tensors are carried on from node to node, as in eager mode from call to call, and
the nodes of operations that are layers are followed by one that hands their results to hooks. What
is read of nodes (the module and the lines that they come from, example values) is not public:
where it is missing, nothing is told.
"""

from __future__ import annotations

import linecache
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, fx

from fmstats.models.selection import ROOT
from fmstats.operations.channel_flow import ChannelFlow, Origin
from fmstats.operations.functional import operation_of
from fmstats.operations.graph_positions import GraphPositions
from fmstats.operations.places import Line
from fmstats.operations.position_flow import PositionFlow

# How Dynamo writes the module that it traces: the name is what follows.
_LOCAL = re.compile(r"^L\['\w+'\]\.?")
_FRAME = re.compile(r'  File "(.*)", line (\d+), in (.*)')
_INDENT = 4  # of the lines of code in a trace
_METHODS: Mapping[object, object] = {
    operator.getitem: Tensor.__getitem__,
    operator.iadd: Tensor.add,
    operator.isub: Tensor.sub,
    operator.imul: Tensor.mul,
    operator.itruediv: Tensor.div,
    operator.truediv: Tensor.div,
}


class Graphed(Protocol):
    """The hook of an operation, as graphs use it.

    Attributes:
        number: by which graphs find it.
    """

    number: int

    def expect(self, count: int, origin: Origin) -> None:
        """Note where the channels are of tensors of so many dims that it will be handed."""

    def expect_positions(self, x: Tensor, flow: PositionFlow) -> None:
        """Note where positions lie in a tensor that it will be handed, here without data."""


class GraphOperations(Protocol):
    """The operations of a model that are layers, as graphs ask for them."""

    def note_graph(self, module: int) -> None:
        """Note that the graph of the forward pass of a module is looked through."""

    def find_in_graph(
        self,
        operation: str,
        module: int,
        lines: Sequence[Line],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        flow: ChannelFlow,
    ) -> Graphed | None:
        """Return the hook of an operation; None if it is no layer.

        Args:
            operation: its name.
            module: the number of the module that calls it.
            lines: that call it, innermost first, also those outside of the module.
            args: what it is called with.
            kwargs: what else.
            flow: the channels of the tensors of the graph.
        """

    def find_tap_in_graph(self, name: str, module: int) -> Graphed | None:
        """Return the hook of a tensor that the user's code taps; None if it is of another model.

        Args:
            name: that the code gives it.
            module: the number of the module whose code it is.
        """


def current_graph() -> Any:
    """Return what Dynamo is making a graph in, at this time and in this thread; None if nothing."""
    try:
        from torch._dynamo.symbolic_convert import InstructionTranslator

        return InstructionTranslator.current_tx().output
    except (AttributeError, ImportError):
        return None


def is_last(output: Any, operation: str) -> bool:
    """Tell whether the last node so far calls the operation of this name."""
    last = next(iter(reversed(output.graph.nodes)), None)
    return last is not None and last.op == "call_function" and operation in str(last.target)


def add_operations(
    module: fx.GraphModule,
    layers: Mapping[int, Graphed],
    operations: Iterable[GraphOperations],
    observe: Any,
    tap: Any,
    traced: int,
    positions: GraphPositions,
) -> None:
    """Tell hooks where the channels of their tensors are, and have operations measured.

    Args:
        module: the graph, which hands tensors to hooks by calls of `observe`.
        layers: the hooks of modules, by their numbers.
        operations: those of each model that is tracked in it.
        observe: the operation that takes a tensor, what orders its calls, and the number of a hook.
        tap: takes a tensor, what orders its calls, and a name: hooks take its place.
        traced: the number of the module whose forward pass the graph is of.
        positions: of its tensors.
    """
    for some in operations:
        some.note_graph(traced)
    flow = ChannelFlow()
    calls = [node for node in module.graph.nodes if node.target in (observe, tap)]
    if not calls:
        return
    op_token = calls[0].args[1]
    ready = False  # whether the token is there already
    for node in list(module.graph.nodes):
        ready = ready or node is op_token
        if node.target is observe:
            x, _, number = node.args
            if number in layers:
                _expect(x, layers[number], flow, positions)
            continue
        if node.target is tap:
            _replace_tap(module.graph, node, operations, observe, flow, positions, traced)
            continue
        call = _follow(node, flow, positions)
        if call is None or not ready:
            continue
        function, args, kwargs = call
        operation = operation_of(function)
        place = _place_of_map(_value_of(node))
        if operation is None or place is None:
            continue
        for some in operations:
            hook = some.find_in_graph(
                operation, _module_of(node, traced), _lines_of(node), args, kwargs, flow
            )
            if hook is not None:
                x = _take(module.graph, node, place)
                _insert(module.graph, x, observe, op_token, hook)
                _expect(x, hook, flow, positions)
    module.recompile()


def _replace_tap(
    graph: fx.Graph,
    node: fx.Node,
    operations: Iterable[GraphOperations],
    observe: Any,
    flow: ChannelFlow,
    positions: GraphPositions,
    traced: int,
) -> None:
    x, op_token, name = node.args
    for some in operations:
        hook = some.find_tap_in_graph(str(name), _module_of(node, traced))
        if hook is not None and isinstance(x, fx.Node):
            with graph.inserting_before(node):
                call = graph.call_function(observe, (x, op_token, hook.number))
            call.meta |= node.meta
            _expect(x, hook, flow, positions)
    graph.erase_node(node)


def _place_of_map(value: object) -> int | None:
    """Return the place of the feature map among several results, as of its indices; -1 of one."""
    if isinstance(value, Tensor):
        return -1
    parts = value if isinstance(value, (tuple, list)) else ()
    found = (i for i, x in enumerate(parts) if isinstance(x, Tensor) and x.is_floating_point())
    return next(found, None)


def _take(graph: fx.Graph, node: fx.Node, place: int) -> fx.Node:
    """Return the node of one of several results; of one result, the node itself."""
    if place < 0:
        return node
    with graph.inserting_after(node):
        part = graph.call_function(operator.getitem, (node, place))
    value = _value_of(node)
    part.meta |= {**node.meta, "example_value": value[place]}
    return part


def _insert(graph: fx.Graph, node: fx.Node, observe: Any, op_token: fx.Node, hook: Graphed) -> None:
    with graph.inserting_after(node):
        x = graph.call_method("detach", (node,))
    with graph.inserting_after(x):
        call = graph.call_function(observe, (x, op_token, hook.number))
    for new in (x, call):
        new.meta |= {k: v for k, v in node.meta.items() if k in ("nn_module_stack", "stack_trace")}
    x.meta["example_value"] = _value_of(node)


def _expect(node: fx.Node, hook: Graphed, flow: ChannelFlow, positions: GraphPositions) -> None:
    """Tell a hook where the channels and the positions are of the tensor that a node gives."""
    x = _value_of(node)
    origin = flow.origin_of(x) if isinstance(x, Tensor) else None
    if origin is not None:
        hook.expect(x.dim(), origin)
    if isinstance(x, Tensor):
        positions.expect(x, hook)


def _follow(
    node: fx.Node, flow: ChannelFlow, positions: GraphPositions
) -> tuple[object, tuple[Any, ...], dict[str, Any]] | None:
    """Carry the channels through a node; return what it calls, if that is known."""
    function: object = None
    if node.op == "call_function":
        function = _METHODS.get(node.target, node.target)
    elif node.op == "call_method":
        function = getattr(Tensor, str(node.target), None)
    result = _value_of(node)
    if function is None or result is None:
        return None
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), _value_of)
    if node.target is operator.getitem and not isinstance(args[0], Tensor):
        _follow_part(args, result, flow, positions)  # of several results
        return None
    flow.follow(function, args, kwargs, result, lambda: _layer_of(node))
    positions.follow(function, args, kwargs, result)
    return function, tuple(args), dict(kwargs)


def _follow_part(
    args: Sequence[Any], result: object, flow: ChannelFlow, positions: GraphPositions
) -> None:
    parts, index = args
    part = parts[index] if isinstance(parts, (tuple, list)) else None
    origin = flow.origin_of(part) if isinstance(part, Tensor) else None
    if origin is not None and isinstance(result, Tensor):
        flow.note(result, origin)
    spread = positions.spread_of(part) if isinstance(part, Tensor) else None
    if spread is not None and isinstance(result, Tensor):
        positions.note(result, spread)


def _value_of(node: Any) -> Any:
    return node.meta.get("example_value")


def _layer_of(node: fx.Node) -> str:
    """Return the name of the module in which a node was made, as far as the graph tells."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return _LOCAL.sub("", str(stack[-1][0])) or ROOT if stack else ROOT


def _module_of(node: fx.Node, traced: int) -> int:
    """Return the number of the module that calls the node."""
    stack = list(node.meta.get("nn_module_stack") or {})
    number = str(stack[-1]).split("@")[0] if stack else ""
    return int(number) if number.isdecimal() else traced


def _lines_of(node: fx.Node) -> list[Line]:
    """Return the lines that a node comes from, innermost first."""
    text = str(node.meta.get("stack_trace") or "").split("\n")
    lines: list[Line] = []
    for number, line in enumerate(text):
        frame = _FRAME.fullmatch(line)
        if frame is None:
            continue
        code = linecache.getline(frame[1], int(frame[2]))
        column = len(code) - len(code.lstrip())
        end = len(code.rstrip())
        marks = text[number + 2] if number + 2 < len(text) else ""
        if marks.strip() and not marks.strip("^~ "):
            column += len(marks) - len(marks.lstrip()) - _INDENT
            end = column + len(marks.strip())
        lines.append((frame[1], int(frame[2]), column, end))
    return lines[::-1]
