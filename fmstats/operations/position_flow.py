"""`PositionFlow` knows where the positions of the inputs lie in the tensors of a forward pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from fmstats.operations.calls import Call
from fmstats.operations.numbers import Numbers
from fmstats.operations.position_calls import PositionCall, without
from fmstats.operations.position_rules import follow
from fmstats.operations.spreads import Spread, join

_WRITING = ("__setitem__", "setitem")


class PositionFlow:
    """A flow carries positions from the inputs of a pass to whatever is made of them.

    It keeps no tensor alive. What is made of positions by operations that lose them has a spread
    without parts: unlike a weight, it is not the same at each position.

    Attributes:
        numbers: of the positions of the inputs.
    """

    def __init__(self, numbers: Numbers) -> None:
        self.numbers = numbers
        self._known: dict[int, tuple[weakref.ref[Tensor], Spread]] = {}

    def spread_of(self, x: Tensor) -> Spread | None:
        """Return where positions lie in a tensor; None if nothing is known, or they are lost."""
        return self._find(x) or None

    def _find(self, x: Tensor) -> Spread | None:
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
        asked = self._find(query)
        parts = without(self.numbers, asked or (), -1, out)
        if asked is None:
            parts = without(self.numbers, self.spread_of(value) or (), time, out)
        self.note(out, join(parts) or ())

    def follow(self, function: Callable[..., Any], call: Call, outputs: Sequence[Tensor]) -> None:
        """Carry positions on to what a function of torch has returned.

        Args:
            function: that was called.
            call: of it.
            outputs: the tensors that it returned, in their order.
        """
        if call.name in _WRITING:
            self._write(call)
        spreads: list[Spread | None] = []
        for place, out in enumerate(outputs):
            asked = PositionCall(call.of(place), function, self._find, self.numbers)
            try:
                spreads.append(follow(asked, out))
            except Exception:  # the user's pass goes on, and the layer says that it does not know
                spreads.append(())
        for out, spread in zip(outputs, spreads, strict=True):
            if spread is None:
                self._known.pop(id(out), None)
            else:
                self.note(out, spread)

    def _write(self, call: Call) -> None:
        """Follow `x[...] = y`: what had no positions has some then, and nobody knows where."""
        written, *others = call.tensors
        if self._find(written) is None and any(self._find(x) is not None for x in others):
            self.note(written, ())
