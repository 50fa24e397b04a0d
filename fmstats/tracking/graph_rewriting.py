"""`measure_in_graph` has a graph measure rows itself, where it was to hand tensors to hooks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx

from fmstats.tracking.graph_rows import GraphRow

Prepare = Callable[[int, Tensor], "GraphRow | str | None"]


def measure_in_graph(
    module: fx.GraphModule, prepare: Prepare, own: Callable[[str], object]
) -> None:
    """Replace calls of hooks by operations that fill memory which the graph owns.

    Args:
        module: the graph that Dynamo has made.
        prepare: returns the row of a hook, by its number, that is to measure such tensors. Else
            why the hook has to be called; None where nothing is to be measured.
        own: is told the name of each buffer that the graph is given.
    """
    graph, operations = module.graph, torch.ops.fmstats
    memory = _Memory(module, own)
    clocks: dict[int, fx.Node] = {}
    handed_over = 0
    for node in list(graph.nodes):
        if node.target is not operations.hand_over:
            continue
        x, _, number = node.args
        value = x.meta.get("example_value")
        row = prepare(number, value) if isinstance(value, Tensor) else "for an unknown tensor"
        if isinstance(row, str):
            handed_over += 1
            continue
        if row is not None:
            clock = clocks[id(row.clock)] = memory.node_of(row.clock)
            limits = row.thresholds
            with graph.inserting_before(node):
                call = graph.call_function(
                    operations.observe,
                    (
                        *(x, memory.node_of(row.state), clock, row.target, row.channel_dim),
                        *(limits.zero_tol, limits.low, limits.high),
                    ),
                )
            call.meta |= node.meta
        graph.erase_node(node)
    if clocks:
        _order_passes(graph, list(clocks.values()), handed_over > 0)
        module.recompile()


def _order_passes(graph: fx.Graph, clocks: list[fx.Node], handed_over: bool) -> None:
    """Have passes begin before what measures them: these operations change the clocks, too.

    Where no hook is left to be called, replays of a CUDA graph need none for passes, either.
    """
    operations = torch.ops.fmstats
    for node in list(graph.nodes):
        if node.target is operations.mark_pass_boundary:
            tokens, *rest = node.args
            tokens = [*tokens, *clocks] if handed_over else clocks
            node.args = (tokens, *rest)
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
