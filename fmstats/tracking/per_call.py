"""Rows for each call of a layer that a model uses several times in a forward pass."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from fmstats.output.tables import format_plural
from fmstats.profiles.row_names import MOST_CALLS
from fmstats.tracking.gates import Gate, Updatable
from fmstats.tracking.layers import Layer, LayerSpec


class _Nothing:
    """A layer that measures nothing."""

    def update(self, output: object) -> None: ...
    def skip(self, reason: str) -> None: ...
    def fail(self, error: Exception) -> None: ...
    def rescale(self, scale: float) -> None: ...
    def claim(self) -> Updatable:
        return self


_NOTHING = _Nothing()


class PerCall:
    """A layer that keeps rows of its own for each of its calls in a forward pass.

    Attributes:
        left_out: calls that were not measured, since they came after `MOST_CALLS` others.
    """

    def __init__(self, spec: LayerSpec, gate: Gate) -> None:
        self.spec, self._gate = spec, gate
        self._thread = threading.local()  # each thread's passes number their calls
        self._adding = threading.Lock()
        self._layers: list[Layer] = []
        self.left_out = 0

    @property
    def layers(self) -> Sequence[Layer]:
        """One for each call that there has been."""
        return self._layers

    def call(self, number: int) -> Layer:
        """The layer of one call, counted from 0; it is made if there is none yet."""
        with self._adding:
            while number >= len(self._layers):
                self._layers.append(Layer(self.spec, self._gate, len(self._layers)))
        return self._layers[number]

    def begin_pass(self) -> None:
        """The next call is the first one of a forward pass."""
        self._thread.next = 0

    def update(self, output: object) -> None:
        """As `Layer.update`, for this call."""
        self.claim().update(output)

    def skip(self, reason: str) -> None:
        """As `Layer.skip`, for this call."""
        self.claim().skip(reason)

    def fail(self, error: Exception) -> None:
        """As `Layer.fail`, for this call."""
        self.claim().fail(error)

    def rescale(self, scale: float) -> None:
        """As `Layer.rescale`, for all calls."""
        for layer in self._layers:
            layer.rescale(scale)

    def claim(self) -> Updatable:
        """The layer of this call; what measures nothing if there were too many before."""
        number: int = getattr(self._thread, "next", 0)
        if number >= MOST_CALLS:
            self.left_out += 1
            return _NOTHING
        self._thread.next = number + 1
        return self.call(number)

    def reset(self) -> None:
        """As `Layer.reset`, for all calls."""
        self.left_out = 0
        for layer in self._layers:
            layer.reset()

    def why_partial(self) -> str | None:
        """Why some calls have no row though others have; None if all have."""
        if self.left_out:
            return (
                f"{format_plural(self.left_out, 'call')} without a row: a layer has one for each "
                f"of its first {MOST_CALLS:,} calls since a forward pass of the tracked model began"
            )
        return next(filter(None, (layer.why_partial() for layer in self._layers)), None)
