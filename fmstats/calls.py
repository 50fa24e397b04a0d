"""Rows for each call of a layer that a model uses several times in a forward pass."""

from __future__ import annotations

import threading
from dataclasses import replace

from fmstats.errors import FmstatsError
from fmstats.gates import Gate
from fmstats.layers import Layer, LayerSpec

MOST_CALLS = 4096  # of one layer in one forward pass


class PerCall:
    """A layer that keeps a row of its own for each of its calls in a forward pass."""

    def __init__(self, spec: LayerSpec, gate: Gate) -> None:
        self._spec, self._gate = spec, gate
        self._thread = threading.local()  # each thread's passes number their calls
        self._adding = threading.Lock()
        self.layers: list[Layer] = []

    def row(self, number: int) -> Layer:
        """The row of one call, counted from 0; it is made if there is none yet."""
        with self._adding:
            while number >= len(self.layers):
                spec = replace(self._spec, name=f"{self._spec.name}#{len(self.layers)}")
                self.layers.append(Layer(spec, self._gate))
        return self.layers[number]

    def begin_pass(self) -> None:
        """The next call is the first one of a forward pass."""
        self._thread.next = 0

    def fold(self, output: object) -> None:
        """As `Layer.fold`, for the row of this call."""
        self._next_layer().fold(output)

    def skip(self, reason: str) -> None:
        """As `Layer.skip`, for the row of this call."""
        self._next_layer().skip(reason)

    def _next_layer(self) -> Layer:
        number = getattr(self._thread, "next", 0)
        if number == MOST_CALLS:
            raise FmstatsError(
                f"layer {self._spec.name!r} was called {MOST_CALLS} times without a forward pass "
                "of the tracked model, which is what numbers calls under per_call=True"
            )
        self._thread.next = number + 1
        return self.row(number)
