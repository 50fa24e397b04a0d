"""`Clocks` are the clocks of a tracker, one for each device that its layers are measured on."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from fmstats.backends.base import Backend
from fmstats.errors import FmstatsError
from fmstats.statistic.clock import Clock
from fmstats.statistic.fields import NEVER


class Clocks:
    """All clocks of a tracker show one time: the forward pass, and the user's step.

    Attributes:
        words: for native code: `passes`, and whether there is more than the host's clock to be
            set when a pass begins.
        host: the clock of the CPU.
        on_devices: those of other devices.
    """

    def __init__(self) -> None:
        self.words, self._step = np.zeros(2, np.int64), NEVER
        self.host = Clock()
        self.host.set("first_pass", 0)
        self._clocks = {torch.device("cpu"): self.host}
        self.on_devices: tuple[Clock, ...] = ()
        self._backends: dict[Clock, Backend] = {}  # that measure on each of these devices
        self._gated: tuple[Clock, ...] = ()  # those whose gates graphs ask
        self._enabled = True

    def on(self, device: torch.device, backend: Backend | None = None) -> Clock:
        """Return the clock of a device, which a backend measures on."""
        found = self._clocks.get(device)
        if found is None:
            clock = Clock(device)
            clock.set("first_pass", self.passes)
            clock.set("first_step", self._step)
            clock.set("enabled", int(self._enabled))
            found = self._clocks.setdefault(device, clock)  # another thread may have been first
            self.on_devices = tuple(self._clocks.copy().values())[1:]
            self.words[1] = 1
        if backend is not None and backend.in_graphs:
            self._backends.setdefault(found, backend)
            self.words[1] = 1
        return found

    def captures(self) -> bool:
        """Tell whether what is measured now on any device goes into a graph."""
        return any(b.captures(c.words.device) for c, b in self._backends.copy().items())

    def capture_pass(self, every: int) -> None:
        """Have the graph that is being captured begin a pass whenever it is replayed.

        Args:
            every: the first of how many replays is measured.
        """
        with torch.no_grad(), _disable_current_modes():
            for clock, backend in self._backends.copy().items():
                if backend.captures(clock.words.device):
                    clock.set("every", every)
                    backend.begin_pass(clock)
                    self.note_gated(clock)

    def own(self, words: Tensor) -> bool:
        """Tell whether words are those of one of these clocks."""
        return any(clock.words is words for clock in self._clocks.copy().values())

    def show_time(self, copies: Sequence[Tensor]) -> None:
        """Set copies of the words of these clocks to the time of now; others are left alone."""
        for copy in copies:
            own = self._clocks.get(copy.device)
            known = own is not None and own.words.shape == copy.shape
            if own is not None and known and own.words.data_ptr() != copy.data_ptr():
                with torch.no_grad(), _disable_current_modes():
                    copy.copy_(own.words)

    def note_gated(self, clock: Clock) -> None:
        """Note that a graph asks the gate of a clock, which is to be right from now on."""
        if clock not in self._gated:
            self._gated = (*self._gated, clock)
            self.words[1] = 1

    def count_replays(self) -> tuple[int, int]:
        """Return how many passes graphs have replayed, and measured of them; waits for devices."""
        words = [(c.word("replayed"), c.word("replayed_measured")) for c in self._backends.copy()]
        found = [(int(replayed), int(measured)) for replayed, measured in words]
        return max(found, default=(0, 0))

    def forget_replays(self) -> None:
        """Count replays from 0, and measure the first."""
        for clock in self._backends.copy():
            for name, value in (("phase", -1), ("replayed", 0), ("replayed_measured", 0)):
                clock.set(name, value)

    def set_enabled(self, enabled: bool) -> None:
        """Let replays measure, or not."""
        self._enabled = enabled
        for clock in self._backends.copy():
            clock.set("enabled", int(enabled))

    def begin_pass(self, taken: bool = True) -> None:
        """Begin a forward pass.

        Args:
            taken: whether it is measured, also by what is left to the gates on devices.
        """
        passes = self.passes + 1
        self.words[0] = passes
        self.host.set("first_pass", passes)
        if self.on_devices:
            with torch.no_grad(), _disable_current_modes():
                for clock in self.on_devices:
                    clock.advance("first_pass")
        for clock in self._gated:
            clock.set("phase", 0 if taken else 1)

    def set_pass(self, number: int) -> None:
        """Go on from the forward pass of a number."""
        self.words[0] = number
        for clock in self._clocks.copy().values():
            clock.set("first_pass", number)

    @property
    def passes(self) -> int:
        """Return the forward passes begun since the tracker was made, whatever was reset since."""
        return int(self.words[0])

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
