"""What is kept of one tracked layer while a model runs.

An output is reduced at once and not kept: an in-place operation that follows cannot change what was
seen, and no activation is held alive.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

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
from fmstats.statistic import State, Thresholds, snapshot
from fmstats.tensors import first_tensor, plain_part, why_skipped


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


@dataclass(frozen=True)
class Known:
    """What is told of a layer's tensors beside their statistics.

    Attributes:
        shape, dtype: of the last one.
        channel_dim: the dim of its channels, and of those of others that have as many dims.
        backends: that measured what was restored.
    """

    shape: tuple[int, ...] = ()
    dtype: str = ""
    channel_dim: int = 0
    backends: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mark:
    """What a layer knew at some time, beside its states.

    Attributes:
        calls, order, reason: as of `Layer`.
        known: what was told of its last tensor.
        restored: what its first state was to begin with.
    """

    calls: int = 0
    order: int | None = None
    reason: str | None = None
    known: Known = Known()
    restored: State | None = None


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
        self._known = Known()
        self._disabled = False
        self._restored: State | None = None  # what the first state shall begin with
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
        if not self._disabled:
            self.reason = None if self.calls else f"its {self.spec.of} {reason}"

    def _begin(self) -> None:
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
        self._try_fold = decline
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
        seen = next((state.channels for state in self.states), view.channels)
        if view.channels != seen:
            if self.calls:
                raise FmstatsError(self._other_channels(x, dim, seen))
            self._meters.clear()  # nothing was seen since reset()
        if x.device not in self._meters:
            state = State.identity(view.channels, x.device)
            backend = choose_backend(self.spec.backend, x.device)
            self._meters[x.device] = backend.meter(state, self.spec.thresholds)
            if self._restored is not None:
                state.words.copy_(self._restored.words)
                self._restored = None
        meter = self._meters[x.device]
        check_input(meter.state, x, view)
        meter.fold(x, view)
        self.calls += 1
        dtype = str(x.dtype).removeprefix("torch.")
        self._known = Known(tuple(x.shape), dtype, dim, self._known.backends)
        self._try_fold = meter.try_fold

    def _dim_of(self, x: Tensor) -> int:
        rule = self.spec.channels
        if isinstance(rule, int):
            return resolve_dim(rule, x.shape)
        if len(self._known.shape) == x.dim():
            return self._known.channel_dim
        return rule.resolve(x.shape)

    def _other_channels(self, x: Tensor, dim: int, seen: int) -> str:
        return (
            f"{self.spec.of} of shape {tuple(x.shape)} has {x.shape[dim]} channels in dim {dim}, "
            f"{seen} before; a layer called with several widths needs "
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
        kept = [] if self._restored is None else [self._restored]
        return kept + [meter.state for meter in self._meters.values()]

    def restore(self, known: LayerProfile, order: int) -> None:
        """Go on from what another run has seen; this one has seen nothing.

        Args:
            known: what it was.
            order: the layer's place there.
        """
        self._meters.clear()
        self._restored, self.calls, self.order = known.stats.state, known.calls, order
        backends = tuple(known.backend.split(", "))
        self._known = Known(known.shape, known.dtype, known.channel_dim, backends)

    def reset(self) -> None:
        """Forget all that was seen; an error that disabled the layer stays."""
        with self._lock:  # not between the reading and the writing of a fold
            for meter in self._meters.values():
                meter.reset()
            self._restored, self._known = None, Known()
            self._try_fold = decline
            self.calls = 0
            if not self._disabled:
                self.reason = None

    def mark(self) -> Mark:
        """What is to be remembered beside the states, to `go_back` to now."""
        return Mark(self.calls, self.order, self.reason, self._known, self._restored)

    def go_back(self, mark: Mark) -> None:
        """Be as when `mark` was made, once the caller has put back the states of then.

        Those made since are empty; an error that disabled the layer since stays.
        """
        self.reset()
        if mark.restored is not None:
            self._meters.clear()
        self.calls, self.order, self._known = mark.calls, mark.order, mark.known
        self._restored, self.reason = mark.restored, self.reason or mark.reason

    def profile(self, states: Sequence[State]) -> LayerProfile | None:
        """What has been seen, or None if nothing has.

        Args:
            states: copies of `states`.
        """
        if not any(state["count"].any() for state in states):
            return None
        whole, *others = states
        for other in others:
            whole.merge_(other)
        backends = [*self._known.backends, *(m.backend.name for m in self._meters.values())]
        return LayerProfile(
            type=self.spec.type,
            channel_dim=self._known.channel_dim,
            shape=self._known.shape,
            dtype=self._known.dtype,
            calls=self.calls,
            backend=", ".join(dict.fromkeys(backends)),
            stats=ChannelStats(whole, self.spec.thresholds),
        )

    @contextmanager
    def held(self) -> Iterator[list[State]]:
        """The states, complete up to now, and not reset while they are held."""
        with self._lock:
            for meter in self._meters.values():
                meter.wait()
            yield self.states


def take_profiles(layers: Iterable[Layer]) -> dict[str, LayerProfile]:
    """What layers have seen, without those that have seen nothing; each device is read once."""
    listed = list(layers)
    with ExitStack() as stack:
        states = [stack.enter_context(layer.held()) for layer in listed]
        copies = iter(snapshot([state for some in states for state in some]))
    seen = {
        layer.spec.name: layer.profile([next(copies) for _ in some])
        for layer, some in zip(listed, states, strict=True)
    }
    return {name: profile for name, profile in seen.items() if profile is not None}
