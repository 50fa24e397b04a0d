"""The hooks that feed layers.

Hooks hold layers and a gate, never the tracker, so that a forgotten tracker can be collected. In a
deep copy or a pickle of a tracked model each hook does nothing: the copy is not tracked.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn as nn

from fmstats.layers import Gate, Layer, PerCall


class _NoHook:
    """The hook of a copied model."""

    def __call__(self, *_: object) -> None:
        """Measure nothing."""


class _Hook:
    __slots__ = ()

    def __reduce__(self) -> tuple[type[_NoHook], tuple[()]]:
        return _NoHook, ()


class _LayerHook(_Hook):
    __slots__ = ("_gate", "_layer")

    def __init__(self, layer: Layer | PerCall, gate: Gate) -> None:
        self._layer, self._gate = layer, gate


class OutputHook(_LayerHook):
    """A forward hook: folds the output."""

    __slots__ = ()

    def __call__(self, module: nn.Module, args: object, output: object) -> None:
        """Fold the output, if the gate is open."""
        if self._gate.open:
            self._layer.fold(output)


class InputHook(_LayerHook):
    """A forward pre-hook, registered with_kwargs: folds the first float tensor among them."""

    __slots__ = ()

    def __call__(self, module: nn.Module, args: object, kwargs: object) -> None:
        """Fold the input, if the gate is open."""
        if self._gate.open:
            self._layer.fold((args, kwargs))


class PassHook(_Hook):
    """A forward pre-hook of the tracked model: counts its passes and samples them.

    Attributes:
        passes, measured: forward passes begun, and those of them that hooks were to measure.
    """

    __slots__ = ("_every", "_gate", "_per_call", "measured", "passes")

    def __init__(self, gate: Gate, every: int, per_call: Sequence[PerCall]) -> None:
        self._gate, self._every, self._per_call = gate, every, per_call
        self.passes = self.measured = 0

    def __call__(self, module: nn.Module, args: object) -> None:
        """Begin a forward pass."""
        if self._gate.paused:
            return
        self._gate.set(sampled=self.passes % self._every == 0)
        self.passes += 1
        self.measured += self._gate.sampled
        for layer in self._per_call:
            layer.begin_pass()

    def reset(self) -> None:
        """Count from 0."""
        self.passes = self.measured = 0
        self._gate.set(sampled=True)
