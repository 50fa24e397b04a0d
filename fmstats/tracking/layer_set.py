"""`LayerSet` holds the layers of a tracker, and the hooks that feed them."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn as nn

from fmstats.tracking.gates import Gate
from fmstats.tracking.grad_scale import GradScale
from fmstats.tracking.hooks import Handle, LayerHook, make_hook, register
from fmstats.tracking.layer_spec import LayerSpec
from fmstats.tracking.layers import Layer
from fmstats.tracking.nonfinite import Guarded, NonFiniteWatch
from fmstats.tracking.options import TrackOptions
from fmstats.tracking.per_call import PerCall
from fmstats.tracking.sampling import Sampling


class LayerSet:
    """A set begins with the modules that are tracked, and takes on operations as they are found.

    A pass may add a layer while another thread reads the set, so nothing that it hands out grows
    while someone iterates over it.

    Attributes:
        layers: what has been measured of each layer, by name.
        per_call: those of them that have rows for each call.
        hooks: what feeds the layers, one each.
        watch: tells the user of what is not finite, if that was asked for.
    """

    def __init__(self, options: TrackOptions, gate: Gate, sampling: Sampling) -> None:
        self._options, self._gate = options, gate
        self._sampling, self._scale = sampling, GradScale(options.grad_scale)
        self.layers: Mapping[str, Layer | PerCall] = {}
        self.per_call: list[PerCall] = []
        self.hooks: list[LayerHook] = []
        asked = options.on_nonfinite
        self.watch = (
            None if asked == "ignore" else NonFiniteWatch(asked, gate.clocks, self.list_layers)
        )

    def list_layers(self) -> list[Layer]:
        """Return the layers, or their calls under `per_call`, as they are being filled."""
        return [each for layer in self.layers.values() for each in layer.layers]

    def add(self, spec: LayerSpec) -> LayerHook:
        """Add a layer, and return the hook that is to be called with what it gives."""
        layer: Layer | PerCall
        if self._options.per_call:
            layer = PerCall(spec, self._gate)
            self.per_call.append(layer)
        else:
            layer = Layer(spec, self._gate)
        guarded = layer if self.watch is None else Guarded(layer, self.watch)
        hook = make_hook(self._options.of, guarded, self._gate, self._scale)
        if self._sampling.timed:
            hook.time(self._sampling.spend)
        self.hooks.append(hook)
        self.layers = {**self.layers, spec.name: layer}
        return hook

    def add_module(self, spec: LayerSpec, module: nn.Module) -> list[Handle]:
        """Add a layer that is a module, and return what removes its hooks from it."""
        return register(module, self.add(spec))
