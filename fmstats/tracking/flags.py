"""`Flag` tells the host that a GPU has met an element that is not finite, and waits for nothing."""

from __future__ import annotations

from typing import Any

import torch

from fmstats.statistic.clock import Clock


class Flag:
    """A flag brings the alarm of a GPU's clock to the host, without a wait.

    Args:
        clock: of that device.
        runtime: torch's module for it, such as `torch.cuda`.
    """

    def __init__(self, clock: Clock, runtime: Any = None) -> None:
        self._clock, self._device = clock, clock.words.device
        self._runtime = torch.get_device_module(self._device) if runtime is None else runtime
        self._copy = torch.zeros(1, dtype=torch.int64, pin_memory=self._runtime.is_available())
        self._coming: Any = None  # the event behind a copy that was asked for

    def ask(self) -> None:
        """Have the alarm copied behind all work so far, if no copy is on its way."""
        if self._coming is None and not self._is_captured():
            stream = self._runtime.current_stream(self._device)
            self._copy.copy_(self._clock.word("alarm"), non_blocking=True)
            self._coming = self._runtime.Event()
            self._coming.record(stream)

    def is_up(self) -> bool:
        """Return whether a copy has come in which the alarm is set."""
        if self._coming is None or self._is_captured() or not self._coming.query():
            return False
        self._coming = None
        return bool(self._copy.item())

    def take_down(self) -> None:
        """Clear the alarm, behind all work so far."""
        self._clock.set("alarm", 0)

    def _is_captured(self) -> bool:
        """Return whether work goes into a graph, where nothing may be asked."""
        asked = getattr(self._runtime, "is_current_stream_capturing", None)  # XPU has none
        return asked is not None and bool(asked())
