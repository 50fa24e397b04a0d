"""`ChannelFlow` knows the channels of the tensors that live while a forward pass is watched."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from fmstats.operations import rules
from fmstats.operations.calls import Call
from fmstats.operations.labels import Label
from fmstats.operations.position_flow import PositionFlow


class Origin(NamedTuple):
    """An origin tells where the channels of a tensor are, and how that is known.

    Attributes:
        label: the dims that hold them.
        layer: in which layer they were made.
        assumed: an operation without a rule was in between, whose result has the shape of what it
            was given.
    """

    label: Label
    layer: str
    assumed: bool = False


class ChannelFlow:
    """A flow carries the channels from what makes them to whatever is made of it.

    It keeps no tensor alive.

    Attributes:
        positions: where the positions of the inputs lie in these tensors, if that is asked for.
    """

    def __init__(self) -> None:
        self.positions: PositionFlow | None = None
        self._known: dict[int, tuple[weakref.ref[Tensor], Origin]] = {}

    def origin_of(self, x: Tensor) -> Origin | None:
        """Return where the channels of a tensor come from; None if nothing is known."""
        found = self._known.get(id(x))
        return found[1] if found is not None and found[0]() is x else None

    def count_known(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
        """Count the tensors with known channels among arguments and lists of them."""
        tensors = Call("", args, dict(kwargs), self._label_of).tensors
        return sum(self.origin_of(x) is not None for x in tensors)

    def note(self, x: Tensor, origin: Origin) -> None:
        """Note where the channels of a tensor are."""
        self._known[id(x)] = weakref.ref(x), origin

    def follow(
        self,
        function: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        result: object,
        layer: Callable[[], str],
    ) -> None:
        """Carry the channels on to what a function of torch has returned.

        Args:
            function: that was called.
            args: with what.
            kwargs: with what else.
            result: what it returned.
            layer: tells in which layer it was called.
        """
        outputs = [x for x in _tensors_in(result) if not x.is_nested]
        call = Call(rules.name_of(function), args, dict(kwargs), self._label_of)
        for place, out in enumerate(outputs):
            label = _follow(call.of(place), out)
            if label is None:
                self._known.pop(id(out), None)
            else:
                self.note(out, self._origin(call, label, layer))
        if self.positions is not None:
            self.positions.follow(function, call, outputs)

    def _origin(self, call: Call, label: Label, layer: Callable[[], str]) -> Origin:
        known = (self.origin_of(x) for x in call.tensors)
        before = next((origin for origin in known if origin is not None), None)
        if before is None or rules.makes_channels(call.name):
            return Origin(label, layer())
        return Origin(label, before.layer, before.assumed or not rules.is_known(call.name))

    def _label_of(self, x: Tensor) -> Label | None:
        origin = self.origin_of(x)
        return None if origin is None else origin.label


def _follow(call: Call, out: Tensor) -> Label | None:
    """Return the label of a result; None also where a rule fails on what it was not made for."""
    try:
        return rules.follow(call, out)
    except Exception:  # the user's pass goes on, and the layer says that it guesses
        return None


def _tensors_in(result: object) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, (tuple, list)):
        for part in result:
            if isinstance(part, Tensor):
                yield part
