"""`Clocks` are the clocks of a tracker, one for each device that its layers are measured on."""

from __future__ import annotations

import operator
from typing import SupportsIndex

import torch
from torch.utils._python_dispatch import _disable_current_modes

from fmstats.errors import FmstatsError
from fmstats.statistic.clock import Clock
from fmstats.statistic.fields import NEVER


class Clocks:
    """All clocks of a tracker show one time: the forward pass, and the user's step.

    Attributes:
        passes: forward passes begun since the tracker was made, whatever was reset since.
        host: the clock of the CPU.
        on_devices: those of other devices.
    """

    def __init__(self) -> None:
        self.passes, self._step = 0, NEVER
        self.host = Clock()
        self.host.set("first_pass", 0)
        self._clocks = {torch.device("cpu"): self.host}
        self.on_devices: tuple[Clock, ...] = ()

    def on(self, device: torch.device) -> Clock:
        """Return the clock of a device."""
        found = self._clocks.get(device)
        if found is None:
            clock = Clock(device)
            clock.set("first_pass", self.passes)
            clock.set("first_step", self._step)
            found = self._clocks.setdefault(device, clock)  # another thread may have been first
            self.on_devices = tuple(self._clocks.copy().values())[1:]
        return found

    def begin_pass(self) -> None:
        """Begin a forward pass."""
        self.passes += 1
        self.host.set("first_pass", self.passes)
        if self.on_devices:
            with torch.no_grad(), _disable_current_modes():
                for clock in self.on_devices:
                    clock.advance("first_pass")

    def set_pass(self, number: int) -> None:
        """Go on from the forward pass of a number."""
        self.passes = number
        for clock in self._clocks.copy().values():
            clock.set("first_pass", number)

    @property
    def step(self) -> int | None:
        """Return the user's step, None if none was told."""
        return None if self._step == NEVER else self._step

    def set_step(self, step: SupportsIndex | None) -> None:
        """Set the user's step: an integer, also one of NumPy or of a tensor.

        Raises:
            FmstatsError: it is no integer from 0 on.
        """
        try:
            now = NEVER if step is None else int(operator.index(step))
        except TypeError:
            now = -1
        if now < 0 or (now >= NEVER and step is not None):
            raise FmstatsError(f"a tracker's step is an integer from 0 on, or None; got {step!r}")
        if now == self._step:
            return
        self._step = now
        for clock in self._clocks.copy().values():
            clock.set("first_step", self._step)
