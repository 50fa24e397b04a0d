"""`GraphPositions` follows positions through a graph that is made of a model.

The tensors of such a graph have no data, and their sizes may be symbols, which no rule may look at:
a guard would be made of each comparison. So rules see tensors on the meta device in their place, of
the sizes that the graph was made with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, fx

from fmstats.operations import rules
from fmstats.operations.calls import Call
from fmstats.operations.position_flow import PositionFlow
from fmstats.operations.spreads import Spread


class Expecting(Protocol):
    """A hook of a layer, as it is told of tensors to come."""

    def expect_positions(self, x: Tensor, flow: PositionFlow) -> None:
        """Note where positions lie in a tensor that it will be handed, here without data."""


class GraphPositions:
    """The positions of the tensors of one graph.

    Attributes:
        flow: knows them; None until anything is known of the inputs.
    """

    def __init__(self) -> None:
        self.flow: PositionFlow | None = None
        # By the ids of tensors, which are kept: no other tensor can have the id of one of them.
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}

    def plain(self, value: Any) -> Any:
        """Return what stands for a tensor; other values, and lists of them, as they are."""
        if isinstance(value, Tensor):
            if id(value) not in self._seen:
                sizes = [_hint(size) for size in value.shape]
                stand_in = torch.empty(sizes, dtype=value.dtype, device="meta")
                self._seen[id(value)] = value, stand_in
            return self._seen[id(value)][1]
        if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
            return type(value)(map(self.plain, value))
        return _hint(value)

    def note_inputs(self, graph: fx.Graph, flow: PositionFlow) -> None:
        """Take the inputs of a graph for those of the pass that it is made in."""
        self.flow = flow
        for node in graph.nodes:
            given = getattr(node.meta.get("grapharg"), "example", None)
            fake = node.meta.get("example_value")
            spread = flow.spread_of(given) if isinstance(given, Tensor) else None
            if spread is not None and isinstance(fake, Tensor):
                flow.note(self.plain(fake), spread)

    def follow(
        self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: object
    ) -> None:
        """Carry positions on to what a node of the graph gives."""
        if self.flow is None:
            return
        parts = result if isinstance(result, (tuple, list)) else (result,)
        outputs = [self.plain(part) for part in parts if isinstance(part, Tensor)]
        named = {name: self.plain(value) for name, value in kwargs.items()}
        call = Call(rules.name_of(function), self.plain(list(args)), named, lambda x: None)
        if call.tensors:
            self.flow.follow(function, call, outputs)

    def expect(self, x: Tensor, hook: Expecting) -> None:
        """Tell a hook where positions lie in a tensor of the graph."""
        if self.flow is not None:
            hook.expect_positions(self.plain(x), self.flow)

    def spread_of(self, x: Tensor) -> Spread | None:
        """Return where positions lie in a tensor of the graph, if that is known."""
        return None if self.flow is None else self.flow.spread_of(self.plain(x))

    def note(self, x: Tensor, spread: Spread) -> None:
        """Note where positions lie in a tensor of the graph."""
        if self.flow is not None:
            self.flow.note(self.plain(x), spread)


def _hint(value: Any) -> Any:
    """Return the number that a symbol stood for when the graph was made."""
    return int(value.node.hint or 0) if isinstance(value, torch.SymInt) else value
