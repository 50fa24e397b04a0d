"""`measure_in_graph` has a graph measure rows itself, where it was to hand tensors to hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx

from fmstats.tracking.graph_rows import GraphRow

Prepare = Callable[[int, "Tensor | None"], "GraphRow | str | None"]
# Operations of torch whose parts may not change anything.
_BRANCHING = ("cond", "while_loop", "scan", "associative_scan", "map_impl")


def measure_in_graph(
    module: fx.GraphModule,
    prepare: Prepare,
    owns: Callable[[int, Tensor], bool],
    own: Callable[[str], object],
    leave_out: Callable[[int], object],
) -> None:
    """Replace calls of hooks by operations that measure: into memory that the graph owns, or rows.

    Args:
        module: the graph that Dynamo has made.
        prepare: returns the row of a hook, by its number, that is to measure such tensors. Else
            why the hook has to be called; None where nothing is to be measured. It is handed None
            for a tensor of a graph within this one, such as that of a checkpoint.
        owns: tells whether a clock is of the tracker whose passes a hook counts, by its number.
        own: is told the name of each buffer that the graph is given.
        leave_out: is told the number of each hook of a branch or a loop, which is not called.
    """
    _call_no_hooks_in_branches(module, leave_out)
    graph, operations = module.graph, torch.ops.fmstats
    memory = _Memory(module, own)
    clocks: dict[Tensor, fx.Node] = {}
    found = list(_find_rows(module, prepare))
    # The graph may work on a copy of a row, so hooks must not change that row beside it.
    in_python = {node.args[2] for node, row in found if isinstance(row, str)}
    on_host = False
    for node, row in found:
        x, op_token, number = node.args
        if isinstance(row, str) or (row is not None and number in in_python):
            continue
        if row is not None:
            with graph.inserting_before(node):
                if row.state is None:
                    on_host = True
                    call = graph.call_function(
                        operations.observe_on_host, (x, op_token, row.target)
                    )
                else:
                    clock = clocks[row.clock] = memory.node_of(row.clock)
                    call = _observe(graph, x, memory.node_of(row.state), clock, row)
            call.meta |= node.meta
        graph.erase_node(node)
    if clocks or on_host:
        _order_passes(graph, clocks, owns, on_host, bool(in_python))
        module.recompile()


def _observe(graph: fx.Graph, x: Any, state: fx.Node, clock: fx.Node, row: GraphRow) -> fx.Node:
    limits = row.thresholds
    return graph.call_function(
        torch.ops.fmstats.observe,
        (
            *(x, state, clock, row.target, row.channel_dim),
            *(limits.zero_tol, limits.low, limits.high),
        ),
    )


def _find_rows(
    module: fx.GraphModule, prepare: Prepare
) -> Iterator[tuple[fx.Node, GraphRow | str | None]]:
    """Yield each call of a hook, also in graphs within this one, and the row that it is for."""
    for graph in _graphs_of(module):
        within = graph is not module.graph
        for node in graph.nodes:
            if node.target is torch.ops.fmstats.hand_over:
                x, _, number = node.args
                value = None if within else x.meta.get("example_value")
                yield node, prepare(number, value)


def _call_no_hooks_in_branches(module: fx.GraphModule, leave_out: Callable[[int], object]) -> None:
    """Call no hooks within branches and loops: torch compiles none that change anything."""
    for graph in _graphs_of(module):
        for node in graph.nodes:
            if getattr(node.target, "__name__", None) not in _BRANCHING:
                continue
            for argument in node.all_input_nodes:
                part = getattr(graph.owning_module, str(argument.target), None)
                if argument.op == "get_attr" and isinstance(part, fx.GraphModule):
                    _call_no_hooks(part, leave_out)


def _call_no_hooks(module: fx.GraphModule, leave_out: Callable[[int], object]) -> None:
    for part in module.modules():
        if isinstance(part, fx.GraphModule):
            for node in list(part.graph.nodes):
                if node.target is torch.ops.fmstats.hand_over:
                    leave_out(node.args[2])
                    part.graph.erase_node(node)
            part.recompile()


def _graphs_of(module: fx.GraphModule) -> Iterator[fx.Graph]:
    yield module.graph
    for part in module.modules():
        if part is not module and isinstance(part, fx.GraphModule):
            yield part.graph


def _order_passes(
    graph: fx.Graph,
    clocks: dict[Tensor, fx.Node],
    owns: Callable[[int, Tensor], bool],
    on_host: bool,
    handed_over: bool,
) -> None:
    """Have passes begin before what measures them: these operations change its clocks, too.

    Each changes those of its own tracker, since it sets them to the time of that one. What is
    measured into the memory of rows has no clock in the graph, and keeps the order of the tokens.

    Where no hook is left to be called, replays of a CUDA graph need none for passes, either.
    """
    operations = torch.ops.fmstats
    for node in list(graph.nodes):
        if node.target is operations.mark_pass_boundary:
            tokens, number, training = node.args
            changed = [place for clock, place in clocks.items() if owns(number, clock)]
            if handed_over or on_host or not changed:
                changed = [*tokens, *changed]
            node.args = (changed, number, training)
            if not handed_over:
                node.target = operations.begin_pass_in_graph


class _Memory:
    """The memory that a graph owns: buffers, whose addresses stay, at the head of it."""

    def __init__(self, module: fx.GraphModule, own: Callable[[str], object]) -> None:
        self._module, self._own = module, own
        self._nodes: dict[int, fx.Node] = {}
        self._first = next(node for node in module.graph.nodes if node.op != "placeholder")

    def node_of(self, tensor: Tensor) -> fx.Node:
        """Return the node of a tensor, which is made a buffer if it is none yet."""
        if id(tensor) not in self._nodes:
            name = f"fmstats_memory_{len(self._nodes)}"
            self._module.register_buffer(name, tensor)
            self._own(name)
            with self._module.graph.inserting_before(self._first):
                node = self._module.graph.get_attr(name)
            node.meta["example_value"] = tensor
            self._nodes[id(tensor)] = node
        return self._nodes[id(tensor)]
