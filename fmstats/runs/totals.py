"""What the batches of a run add up to, beside the tracker, which holds one batch at a time.

A batch is measured for itself and then merged in float64. So its numbers do not hang on those
before it: wherever a run is cut, and over however many processes, the parts add up to the same
moments, but for the rounding of that merge. And half a batch can be forgotten.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fmstats.layers import Layer
from fmstats.profiles import Profile
from fmstats.statistic import State, merge
from fmstats.tracker import Tracker


class _Side:
    """The states of all layers on one device, and their totals side by side in one state."""

    def __init__(self, words: list[Tensor], kept: dict[int, Tensor]) -> None:
        device = words[0].device
        self.words = words
        self._nothing = [State.identity(w.shape[1], device).words for w in words]
        parts = [kept.get(id(w), nothing) for w, nothing in zip(words, self._nothing, strict=True)]
        self._total = State(torch.cat(parts, 1))

    def parts(self) -> list[Tensor]:
        """The total of each layer."""
        return list(torch.split(self._total.words, [w.shape[1] for w in self.words], 1))

    def add(self) -> None:
        """Add what the layers hold to their totals."""
        self._total = merge(self._total, State(torch.cat(self.words, 1)))

    def clear(self) -> None:
        """Have the layers hold nothing."""
        torch._foreach_copy_(self.words, self._nothing)

    def put_back(self) -> None:
        """Have the layers hold their totals."""
        torch._foreach_copy_(self.words, self.parts())


class Totals:
    """The totals of a tracker's layers.

    A batch costs one merge of all channels of the model on their device, about 30 operations
    however many layers there are; nothing is read back to the host.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._sides: list[_Side] = []
        self._passes = (0, 0)
        self._known: dict[Layer, tuple[int, str | None]] = {}

    def begin_batch(self) -> None:
        """A batch is to be measured next."""
        self._passes = self._tracker.pass_counts
        self._known = {layer: (layer.calls, layer.reason) for layer in self._tracker.rows}

    def add_batch(self) -> None:
        """The batch was measured: add it."""
        if self._tracker.pass_counts[1] == self._passes[1]:
            return
        self._follow()
        for side in self._sides:
            side.add()
            side.clear()

    def forget_batch(self) -> None:
        """The batch was measured in part: it shall leave no trace."""
        for layer in self._tracker.rows:
            calls, reason = self._known.get(layer, (0, None))
            layer.reset()
            layer.calls, layer.reason = calls, layer.reason or reason
        self._tracker.pass_counts = self._passes

    def stats(self) -> Profile:
        """The profile of all batches added."""
        for side in self._sides:
            side.put_back()
        profile = self._tracker.stats()
        for side in self._sides:
            side.clear()
        return profile

    def _follow(self) -> None:
        """Make room for layers that have states since the last batch."""
        words = [state.words for layer in self._tracker.rows for state in layer.states]
        if [id(w) for w in words] == [id(w) for side in self._sides for w in side.words]:
            return
        kept = {
            id(w): part
            for side in self._sides
            for w, part in zip(side.words, side.parts(), strict=True)
        }
        devices = dict.fromkeys(w.device for w in words)
        self._sides = [_Side([w for w in words if w.device == d], kept) for d in devices]
