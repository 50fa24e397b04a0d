"""`split_measurements` takes the operation `observe` apart, before Inductor looks at a graph.

`partials` reduces a tensor and changes nothing, so that it can be fused with what makes the tensor.
`fold` merges the partials of all tensors into their states, once for each pass. An operation that
changes what it is given takes torch ten times as long to compile: there is one now, not hundreds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, fx

from fmstats.graph_ops.planes import planes_of
from fmstats.statistic.fields import MODES
from fmstats.statistic.thresholds import Thresholds


class _Reduced(NamedTuple):
    """What was reduced of one tensor, and where it goes."""

    partials: fx.Node
    state: fx.Node
    positions: int
    mode: int


def split_measurements(
    module: fx.GraphModule, may_be: Callable[[Tensor | None, int, int], bool]
) -> None:
    """Split each `observe` of a graph that may be split.

    Args:
        module: the graph, as Dynamo has made it.
        may_be: tells it, from the tensor as the graph has it, without data, or None if it is not
            known; from its channel dim, -1 where all is one channel; and from the number of what is
            measured.
    """
    graph, operations = module.graph, torch.ops.fmstats
    # By the clock that tells whether to measure.
    waiting: dict[fx.Node, list[_Reduced]] = {}
    for node in list(graph.nodes):
        if node.target is not operations.observe and node.target is not operations.observe.default:
            # A pass that begins or ends changes the clock; none goes on behind the graph.
            for clock in list(waiting):
                if node.op == "output" or clock in node.all_input_nodes:
                    _fold(graph, node, clock, waiting.pop(clock))
            continue
        x, state, clock, number, channel_dim, *bounds = node.args
        value = x.meta.get("example_value")
        if not may_be(value, channel_dim, number):
            continue
        planes = planes_of(value.shape, channel_dim)
        with graph.inserting_before(node):
            made = graph.call_function(
                operations.partials.default, (x, channel_dim, *bounds, number)
            )
            partials = graph.call_function(operator.getitem, (made, 0))
        made.meta |= _place_of(node)
        partials.meta |= _place_of(node)
        reduced = _Reduced(
            partials,
            state,
            planes.positions * planes.shape[0],
            MODES.index(Thresholds(*bounds).mode),
        )
        waiting.setdefault(clock, []).append(reduced)
        graph.erase_node(node)
    module.recompile()


def _fold(graph: fx.Graph, before: fx.Node, clock: fx.Node, layers: Sequence[_Reduced]) -> None:
    partials, states, positions, modes = (list(column) for column in zip(*layers, strict=True))
    with graph.inserting_before(before):
        call = graph.call_function(
            torch.ops.fmstats.fold.default, (partials, states, clock, positions, modes)
        )
    call.meta |= _place_of(layers[-1].partials)


def _place_of(node: fx.Node) -> dict[str, object]:
    """Return what tells of which module and line a node is."""
    return {
        name: node.meta[name] for name in ("nn_module_stack", "stack_trace") if name in node.meta
    }
