"""Take back what a batch did to a tracker that it went through in part."""

from __future__ import annotations

import torch
from torch import Tensor

from fmstats.tracking.layers import Layer
from fmstats.tracking.snapshots import LayerSnapshot
from fmstats.tracking.tracker import Tracker


class Undo:
    """Remembers what a tracker had seen before a batch, at first that of when it is made.

    That costs a copy of all states on their device, a few launches however many layers there are;
    nothing is read back to the host. It is made on the current stream: a model that computes on
    several has joined them by the end of its forward pass.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._words: list[Tensor] = []
        self._copies: list[Tensor] = []
        self.remember()

    def remember(self) -> None:
        """Remember what has been seen up to now."""
        layers = self._tracker.layers
        hook = self._tracker.pass_hook
        self._counts = hook.counts
        self._sampling = hook.sampling.remember()
        self._snapshots: dict[Layer, LayerSnapshot] = {
            layer: layer.take_snapshot() for layer in layers
        }
        words = [held for layer in layers for state in layer.states for held in state.held]
        if list(map(id, words)) != list(
            map(id, self._words)
        ):  # layers have fired for the first time
            self._words, self._copies = words, [torch.empty_like(w) for w in words]
        if words:
            torch._foreach_copy_(self._copies, self._words)

    def take_back(self) -> None:
        """Forget all that was seen since, on whatever stream of the current device it was."""
        for layer in self._tracker.layers:
            layer.rollback(self._snapshots.get(layer, LayerSnapshot()))
        if self._words:
            torch._foreach_copy_(self._words, self._copies)
        hook = self._tracker.pass_hook
        hook.go_on_from(*self._counts)
        hook.sampling.go_back(self._sampling)
