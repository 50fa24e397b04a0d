"""A host and a GPU whose clocks go on where a test says so, with events as torch.cuda has them.

The stream runs what it is given, one after the other, while the host goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch

from fmstats.tracking.budget import Budget
from fmstats.tracking.clocks import Clocks
from fmstats.tracking.device_time import DeviceTimer, DeviceTimers

GPU = torch.device("cuda", 0)


class Event:
    """An event that nobody may wait for."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._at: float | None = None

    def record(self, stream: object) -> None:
        assert stream == self._machine.device
        assert not self._machine.capturing
        self._at = self._machine.busy_until()
        self._machine.recorded += 1

    def query(self) -> bool:
        assert not self._machine.capturing
        return self._at is not None and self._at <= self._machine.now

    def elapsed_time(self, end: Event) -> float:
        assert self._at is not None
        assert end._at is not None
        assert self.query()
        assert end.query()
        return 1e3 * (end._at - self._at)

    def synchronize(self) -> None:
        raise AssertionError("somebody waits for the device")


class Machine:
    """A host with a GPU, and what `torch.cuda` says of it.

    Attributes:
        device: which GPU it is.
        now: the host's clock.
        lead: seconds of work that the stream takes before the host has to wait.
        capturing: whether work goes into a graph.
        made, recorded: events, and how often they were recorded.
    """

    def __init__(self, lead: float = 0.0, device: torch.device = GPU) -> None:
        self.device = device
        self.now = self._busy = 0.0
        self.lead = lead
        self.capturing = False
        self.made = self.recorded = 0

    def busy_until(self) -> float:
        return max(self._busy, self.now)

    def run(self, seconds: float) -> None:
        """Give the stream some work."""
        self._busy = self.busy_until() + seconds
        self.now = max(self.now, self._busy - self.lead)

    def Event(self, *, enable_timing: bool) -> Event:  # noqa: N802 (torch's name)
        assert enable_timing
        self.made += 1
        return Event(self)

    def current_stream(self, device: torch.device) -> object:
        return device

    def is_current_stream_capturing(self) -> bool:
        return self.capturing

    def clocks(self) -> Clocks:
        """The clocks of a tracker that has measured something on the GPU."""
        return clocks_on(self.device)

    def timers(self) -> DeviceTimers:
        """The timers of such a tracker."""
        return DeviceTimers(self.clocks(), lambda device: DeviceTimer(device, self))


def clocks_on(*devices: torch.device) -> Clocks:
    """The clocks of a tracker that has measured something on some devices."""
    clocks = Clocks()
    clocks.on_devices = tuple(  # type: ignore[assignment]
        SimpleNamespace(words=SimpleNamespace(device=device)) for device in devices
    )
    return clocks


class Run:
    """Passes of a model under a budget.

    Args:
        share: of the budget.
        machine: that it runs on.
        forward: the host's and the device's seconds for a pass.
        cost: the same for measuring one.

    Attributes:
        taken: which passes were measured.
    """

    def __init__(
        self,
        share: float,
        machine: Machine,
        forward: tuple[float, float],
        cost: tuple[float, float],
    ) -> None:
        self.machine, self.forward, self.cost = machine, forward, cost
        self.budget = Budget(share, machine.timers())
        self.taken: list[bool] = []
        self._spent = self._forward = 0.0

    def go(
        self,
        passes: int,
        slow: Callable[[int], float] = lambda number: 1.0,
        disturbed: Callable[[int], float] = lambda number: 0.0,
        compiling: Callable[[int], float] = lambda number: 0.0,
    ) -> None:
        """Run passes.

        Args:
            passes: how many.
            slow: how many times as long the device takes for everything in a pass.
            disturbed: seconds in which the device does something else in a pass.
            compiling: seconds that the model, and the hooks as well, take longer on the host.
        """
        for _ in range(passes):
            number, began = len(self.taken), self.machine.now
            factor, more = slow(number), compiling(number)
            taken = self.budget.take()
            self.machine.now += self.forward[0] + more
            self.machine.run(self.forward[1] * factor + disturbed(number))
            if taken:
                self.machine.now += self.cost[0] + more
                self.machine.run(self.cost[1] * factor)
                self.budget.spend(self.cost[0] + more)
            self.budget.end(self.machine.now - began)
            self.taken.append(taken)
            if number:  # all but the first pass
                self._forward += self.forward[1] * factor
                self._spent += taken * self.cost[1] * factor

    @property
    def share_of_host(self) -> float:
        """What measuring has taken of the host's time without it, but for the first pass."""
        return sum(self.taken[1:]) * self.cost[0] / (len(self.taken[1:]) * self.forward[0])

    @property
    def share_of_device(self) -> float:
        """The same of the time that the device works."""
        return self._spent / self._forward

    @property
    def measured(self) -> list[int]:
        """The numbers of the passes that were measured."""
        return [number for number, taken in enumerate(self.taken) if taken]
