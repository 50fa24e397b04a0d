"""`PerCall` keeps rows for each call of a layer that a model uses several times in a pass."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from torch import Tensor

from fmstats.operations.channel_flow import Origin
from fmstats.operations.position_flow import PositionFlow
from fmstats.output.tables import format_plural
from fmstats.profiles.row_names import MOST_CALLS
from fmstats.tracking.gates import Gate, Updatable
from fmstats.tracking.layer_spec import LayerSpec
from fmstats.tracking.layers import Layer


class _Nothing:
    """This layer measures nothing."""

    def update(self, output: object) -> None: ...
    def skip(self, reason: str) -> None: ...
    def fail(self, error: Exception) -> None: ...
    def expect(self, count: int, origin: Origin) -> None: ...
    def expect_positions(self, x: Tensor, flow: PositionFlow) -> None: ...
    def rescale(self, scale: float) -> None: ...
    def note_in_python(self, why: str) -> None: ...
    def claim(self) -> Updatable:
        return self


_NOTHING = _Nothing()


class PerCall:
    """This layer keeps rows of their own for each of its calls in a forward pass.

    Attributes:
        in_python: why graphs hand tensors to Python; None if they do not.
        left_out: calls that were not measured, since they came after `MOST_CALLS` others.
    """

    def __init__(self, spec: LayerSpec, gate: Gate) -> None:
        self.spec, self._gate = spec, gate
        self._thread = threading.local()  # each thread's passes number their calls
        self._adding = threading.Lock()
        self._layers: list[Layer] = []
        self._expected: dict[int, Origin] = {}
        self.left_out = 0
        self.in_python: str | None = None

    @property
    def layers(self) -> Sequence[Layer]:
        """Return a layer for each call that there has been."""
        return self._layers

    def call(self, number: int) -> Layer:
        """Return the layer of one call, counted from 0; it is made if there is none yet."""
        with self._adding:
            while number >= len(self._layers):
                layer = Layer(self.spec, self._gate, len(self._layers))
                for count, origin in self._expected.items():
                    layer.expect(count, origin)
                self._layers.append(layer)
        return self._layers[number]

    def begin_pass(self) -> None:
        """Begin a forward pass: the next call is its first one."""
        self._thread.next = 0

    def update(self, output: object) -> None:
        """Update the layer of this call with an output."""
        self.claim().update(output)

    def skip(self, reason: str) -> None:
        """Say why an output of this call was not measured."""
        self.claim().skip(reason)

    def fail(self, error: Exception) -> None:
        """Stop measuring this call and warn of it."""
        self.claim().fail(error)

    def expect(self, count: int, origin: Origin) -> None:
        """Note where the channels of tensors of all calls are, by their number of dims."""
        with self._adding:
            self._expected[count] = origin
            for layer in self._layers:
                layer.expect(count, origin)

    def expect_positions(self, x: Tensor, flow: PositionFlow) -> None:
        """Note where positions lie in a tensor to come, which may be without data."""
        for layer in self._layers:
            layer.expect_positions(x, flow)

    def rescale(self, scale: float) -> None:
        """Take outputs of all calls for `scale` times what is to be told of them."""
        for layer in self._layers:
            layer.rescale(scale)

    def note_in_python(self, why: str) -> None:
        """Note why graphs hand tensors to Python."""
        self.in_python = why

    def claim(self) -> Updatable:
        """Return the layer of this call; what measures nothing if there were too many before."""
        number: int = getattr(self._thread, "next", 0)
        if number >= MOST_CALLS:
            self.left_out += 1
            return _NOTHING
        self._thread.next = number + 1
        return self.call(number)

    def reset(self) -> None:
        """Forget all that was seen, of all calls."""
        self.left_out = 0
        for layer in self._layers:
            layer.reset()

    def why_partial(self) -> str | None:
        """Tell why some calls have no row though others have; None if all have."""
        if self.left_out:
            return (
                f"{format_plural(self.left_out, 'call')} without a row: a layer has one for each "
                f"of its first {MOST_CALLS:,} calls since a forward pass of the tracked model began"
            )
        return next(filter(None, (layer.why_partial() for layer in self._layers)), None)
