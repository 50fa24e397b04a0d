"""`PositionFlow` knows where the positions of the inputs lie in the tensors of a forward pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from fmstats.operations.calls import Call
from fmstats.operations.position_calls import PositionCall, without
from fmstats.operations.position_rules import follow
from fmstats.operations.spreads import Numbers, Spread, join


class PositionFlow:
    """A flow carries positions from the inputs of a pass to whatever is made of them.

    It keeps no tensor alive.

    Attributes:
        numbers: of the positions of the inputs.
    """

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers
        self._known: dict[int, tuple[weakref.ref[Tensor], Spread]] = {}

    def spread_of(self, x: Tensor) -> Spread | None:
        """Return where positions lie in a tensor; None if nothing is known."""
        found = self._known.get(id(x))
        return found[1] if found is not None and found[0]() is x else None

    def note(self, x: Tensor, spread: Spread) -> None:
        """Note where positions lie in a tensor."""
        self._known[id(x)] = weakref.ref(x), spread

    def attend(self, query: Tensor, value: Tensor, out: Tensor, time: int) -> None:
        """Carry positions on to what an attention has returned whose operations were not seen.

        Args:
            query: its positions are those of the result, if they are known.
            value: else what the attention adds up along `time`.
            out: the result, laid out as both.
            time: the dim of the sequence.
        """
        parts = without(self.numbers, self.spread_of(query) or (), -1, out)
        parts = parts or without(self.numbers, self.spread_of(value) or (), time, out)
        spread = join(parts)
        if spread is not None:
            self.note(out, spread)

    def follow(self, function: Callable[..., Any], call: Call, outputs: Sequence[Tensor]) -> None:
        """Carry positions on to what a function of torch has returned.

        Args:
            function: that was called.
            call: of it.
            outputs: the tensors that it returned, in their order.
        """
        spreads: list[Spread | None] = []
        for place, out in enumerate(outputs):
            asked = PositionCall(call.of(place), function, self.spread_of, self.numbers)
            try:
                spreads.append(follow(asked, out))
            except Exception:  # the user's pass goes on, and the layer says that it does not know
                spreads.append(None)
        for out, spread in zip(outputs, spreads, strict=True):
            if spread is None:
                self._known.pop(id(out), None)
            else:
                self.note(out, spread)
