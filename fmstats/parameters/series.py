"""A `Series` is one row of a profile of parameters while it is filled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fmstats.backends import choose_backend
from fmstats.backends.base import Meter, check_input, decline, why_unmeasurable
from fmstats.profiles.layer_profile import LayerProfile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.state import State, merge
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of
from fmstats.tracking.clocks import Clocks


class Series:
    """A series measures one tensor of a parameter, step after step: its weights, for instance.

    Args:
        kind: what the type of its row says, such as "gradient".
        channel_dim: of the tensor; None where all is one channel.
        thresholds: what counts as zero.
        backend: by name, or "auto".
        clocks: the time, by which a row knows the step of its first NaN.

    Attributes:
        kind: as given; it changes when a frozen parameter is trained.
        calls: how often it was measured.
        reason: why its last tensor could not be measured; None if it could.
    """

    def __init__(
        self,
        kind: str,
        channel_dim: int | None,
        thresholds: Thresholds,
        backend: str,
        clocks: Clocks,
    ) -> None:
        self.kind, self._dim = kind, channel_dim
        self._thresholds, self._backend, self._clocks = thresholds, backend, clocks
        self._meters: dict[torch.device, Meter] = {}
        self._try: Callable[[object], bool] = decline
        self._last: tuple[tuple[int, ...], str] = ((), "")
        self.calls = 0
        self.reason: str | None = None

    def update(self, x: Tensor) -> None:
        """Measure a tensor, if it has a statistic."""
        if self._try(x):
            self.calls += 1
            return
        self.reason = why_unmeasurable(x)
        if self.reason is not None:
            return
        view = view_of(x, self._dim)
        meter = self._meter_on(x.device, view.channels)
        check_input(meter.state, x, view)
        meter.update(x, view)
        self._try = meter.try_update
        self._last = tuple(x.shape), str(x.dtype).removeprefix("torch.")
        self.calls += 1

    def _meter_on(self, device: torch.device, channels: int) -> Meter:
        if device not in self._meters:
            backend = choose_backend(self._backend, device)
            state = State.identity(channels, device)
            self._meters[device] = backend.meter(state, self._thresholds, self._clocks.on(device))
        return self._meters[device]

    def reset(self) -> None:
        """Forget all that was measured."""
        for meter in self._meters.values():
            meter.reset()
        self.calls = 0

    @property
    def states(self) -> list[State]:
        """Return its states, one a device, when all that was measured is in them."""
        for meter in self._meters.values():
            meter.wait()
        return [meter.state for meter in self._meters.values()]

    def profile(self, states: list[State]) -> LayerProfile:
        """Return the row of a profile.

        Args:
            states: copies of `states`, on the CPU; there is at least one.
        """
        whole, *others = states
        for other in others:
            whole = merge(whole, other)
        used = dict.fromkeys(meter.backend.name for meter in self._meters.values())
        shape, dtype = self._last
        return LayerProfile(
            type=self.kind,
            channel_dim=self._dim,
            shape=shape,
            dtype=dtype,
            calls=self.calls,
            backend=", ".join(used),
            stats=ChannelStats(whole, self._thresholds),
        )
