"""What is kept of one tracked layer while a model runs.

An output is reduced at once and not kept: an in-place operation that follows cannot change what was
seen, and no activation is held alive.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fmstats.backends import choose_backend, why_chosen
from fmstats.backends.base import Meter, check_input, decline
from fmstats.channels import ChannelRule
from fmstats.derived import ChannelStats
from fmstats.errors import FmstatsError
from fmstats.gates import Gate
from fmstats.layout import resolve_dim, view_of
from fmstats.profiles import LayerProfile
from fmstats.statistic import State, Thresholds
from fmstats.tensors import first_tensor, plain_part, why_skipped

MOST_CALLS = 4096  # of one layer in one forward pass, under per_call


@dataclass(frozen=True)
class LayerSpec:
    """What is to be measured at one layer.

    Attributes:
        type: the module's class name.
        channels: the dim of the channels, or the rule that finds it.
        of: what is measured, "output" or "input".
        backend: a backend's name, or "auto".
        on_error: "raise" or "warn".
    """

    name: str
    type: str
    channels: ChannelRule | int
    thresholds: Thresholds
    of: str
    backend: str
    on_error: str


class Layer:
    """One row of a profile while it is being filled.

    Attributes:
        calls: tensors folded in.
        order: the layer's place in the order of first calls, None before it has fired.
        reason: why its last output was not measured, None if it was.
    """

    def __init__(self, spec: LayerSpec, gate: Gate) -> None:
        self.spec, self._gate = spec, gate
        self._meters: dict[torch.device, Meter] = {}
        self._try_fold: Callable[[object], bool] = decline
        self._channel_dim = 0
        self._shape: tuple[int, ...] = ()
        self._dtype: torch.dtype | None = None
        self._disabled = False
        self._lock = threading.RLock()
        self.calls = 0
        self.order: int | None = None
        self.reason: str | None = None

    def fold(self, output: object) -> None:
        """Fold the first float tensor of an output into the statistics.

        Raises:
            FmstatsError: the tensor does not fit what was seen before, and `on_error="raise"`.
        """
        try:
            if self._try_fold(output):
                self.calls += 1
            elif not self._disabled:
                with self._lock:  # two threads must not begin a layer each for itself
                    self._fold(output)
        except Exception as error:
            self._fail(error)

    def skip(self, reason: str) -> None:
        """Say why an output was not folded."""
        self._begin()
        self.reason = None if self.calls else f"its {self.spec.of} {reason}"

    def _begin(self) -> None:
        self._try_fold = decline
        if self.order is None:
            self.order = self._gate.started
            self._gate.started += 1

    def _fail(self, error: Exception) -> None:
        self._try_fold = decline
        message = f"layer {self.spec.name!r} ({self.spec.type}): {error}"
        if self.spec.on_error == "raise":
            raise FmstatsError(message) from error
        self._disabled, self.reason = True, f"disabled after an error: {error}"
        warnings.warn(f"fmstats no longer measures {message}", RuntimeWarning, stacklevel=3)

    def _fold(self, output: object) -> None:
        self._begin()
        x = first_tensor(output)
        if x is not None and type(x) is not Tensor:
            part = plain_part(x, self._dim_of(x) if x.dim() else None)
            if isinstance(part, str):
                self.reason = f"its {self.spec.of} {part}"
                return
            x = part
        why = why_skipped(x, output)
        self.reason = None if why is None else f"its {self.spec.of} {why}"
        if x is None or why is not None:
            return
        x = x.resolve_neg()
        if x.numel() == 0:
            self.reason = None if self.calls else f"its {self.spec.of} is empty"
            return
        dim = self._dim_of(x)
        view = view_of(x, dim)
        if self._meters and view.channels != self._seen_channels:
            if self.calls:
                raise FmstatsError(self._other_channels(x, dim))
            self._meters.clear()  # nothing was seen since reset()
        if x.device not in self._meters:
            state = State.identity(view.channels, x.device)
            backend = choose_backend(self.spec.backend, x.device)
            self._meters[x.device] = backend.meter(state, self.spec.thresholds)
            self._channel_dim = dim
        meter = self._meters[x.device]
        check_input(meter.state, x, view)
        meter.fold(x, view)
        self.calls += 1
        self._shape, self._dtype = tuple(x.shape), x.dtype
        self._try_fold = meter.try_fold

    def _dim_of(self, x: Tensor) -> int:
        rule = self.spec.channels
        if isinstance(rule, int):
            return resolve_dim(rule, x.shape)
        if len(self._shape) == x.dim():
            return self._channel_dim
        return rule.resolve(x.shape)

    @property
    def _seen_channels(self) -> int:
        return next(iter(self._meters.values())).state.channels

    def _other_channels(self, x: Tensor, dim: int) -> str:
        return (
            f"{self.spec.of} of shape {tuple(x.shape)} has {x.shape[dim]} channels in dim {dim}, "
            f"{self._seen_channels} before; a layer called with several widths needs "
            "per_call=True, another dim channel_dim=, or leave it out with exclude="
        )

    def backends(self) -> dict[str, str]:
        """Of each device that the layer was measured on, which backend served it and why."""
        return {
            str(device): f"{meter.backend.name}: {why_chosen(self.spec.backend, device)}"
            for device, meter in self._meters.items()
        }

    @property
    def states(self) -> list[State]:
        """What has been seen so far, on each device."""
        return [meter.state for meter in self._meters.values()]

    def reset(self) -> None:
        """Forget all that was seen; an error that disabled the layer stays."""
        with self._lock:  # not between the reading and the writing of a fold
            for meter in self._meters.values():
                meter.reset()
            self._try_fold = decline
            self.calls = 0
            if not self._disabled:
                self.reason = None

    def profile(self) -> LayerProfile | None:
        """What has been seen, or None if nothing has."""
        with self._lock:
            for meter in self._meters.values():
                meter.wait()
            states = [meter.state.snapshot() for meter in self._meters.values()]
        if not any(state["count"].any() for state in states):
            return None
        for other in states[1:]:
            states[0].merge_(other)
        return LayerProfile(
            type=self.spec.type,
            channel_dim=self._channel_dim,
            shape=self._shape,
            dtype=str(self._dtype).removeprefix("torch."),
            calls=self.calls,
            backend=", ".join(dict.fromkeys(m.backend.name for m in self._meters.values())),
            stats=ChannelStats(states[0], self.spec.thresholds),
        )


class PerCall:
    """A layer that keeps a row of its own for each of its calls in a forward pass."""

    def __init__(self, spec: LayerSpec, gate: Gate) -> None:
        self._spec, self._gate = spec, gate
        self._thread = threading.local()  # each thread's passes number their calls
        self._adding = threading.Lock()
        self.layers: list[Layer] = []

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
        with self._adding:
            if number == len(self.layers):
                spec = replace(self._spec, name=f"{self._spec.name}#{number}")
                self.layers.append(Layer(spec, self._gate))
        return self.layers[number]
