"""A `Budget` takes as many forward passes as a share of their time pays for.

`allowance.py` tells what it may spend, and `device_time.py` what it spends of a GPU's time.
"""

from __future__ import annotations

import copy
import math
import threading
from typing import Any

import torch

from fmstats.tracking.allowance import FEW, Allowance
from fmstats.tracking.clocks import Clocks
from fmstats.tracking.device_time import Begun, DeviceTimers

_RUN = 15  # measured passes one after the other, before one shows how long a GPU takes without
_TRIES = 8  # passes that are measured to learn what that costs a GPU
_GOLDEN = 0.5 * (math.sqrt(5) - 1)  # multiples of it are spread evenly between whole numbers
_COUNTS = ("passes", "measured", "_begun", "_in_a_row", "_tries", "_distance")


class Budget:
    """This sampling takes as many passes as a share of the forward time pays for.

    The host's clock tells how long hooks take there, and events on the stream of a GPU how much
    longer measured passes take than others. A pass is taken if both pay for it. What one costs is
    learned from `FEW` of them, for which those that follow pay. The first pass of all is measured
    as well, and left out of all times: it compiles, allocates and finds channels. Passes of several
    threads are added up.

    Args:
        share: of the time without measuring, above 0 and below 1.
        timers: of the devices; without them the host's clock alone counts.
    """

    timed = True

    def __init__(self, share: float, timers: DeviceTimers | None = None) -> None:
        self._share = share
        self._timers = DeviceTimers(Clocks()) if timers is None else timers
        self._lock = threading.Lock()
        self._thread = _Pass()
        self.passes = self.measured = 0
        self._begun = False  # any pass at all, whatever was reset since
        self._in_a_row = self._tries = 0
        self._distance = 1.0  # measured passes that have to be paid for before the next is taken
        self.first, self.host = Allowance(share), Allowance(share)
        self.devices: dict[torch.device, Allowance] = {}

    def take(self) -> bool:
        """Tell whether to measure the pass that begins."""
        thread = self._thread
        with self._lock:  # all of this runs in each pass, so it asks as little as it can
            if self._timers.exist:
                for timer, pair in thread.begun:  # of a pass that never came to its end
                    timer.drop(pair)
                self._read()
            if not self.passes:
                taken = True
            elif self.devices:
                taken = self._choose()
            else:
                taken = self.host.cost is None or self.host.affords(self._distance)
            thread.is_first, self._begun = not self._begun, True
            if self._timers.exist:
                thread.begun = () if thread.is_first else self._timers.begin(taken)
            self.passes += 1
            if taken:
                self._count_measured()
            else:
                self._in_a_row = 0
        thread.taken, thread.spent = taken, 0.0
        return taken

    def _count_measured(self) -> None:
        self.measured += 1
        self._in_a_row += 1
        # Sometimes sooner and sometimes later, lest it is always the same of passes that repeat.
        self._distance = 1 + self.measured * _GOLDEN % 1
        for allowance in self.devices.values():
            if allowance.cost is not None:
                allowance.pay(allowance.cost)

    def _choose(self) -> bool:
        """Tell whether a pass is to be measured, where devices are timed."""
        learning, waiting = self.host.cost is None, False
        for device, allowance in self.devices.items():
            if allowance.cost is None:
                coming = len(allowance.costs) + self._timers.awaited(device)
                waiting = waiting or coming >= FEW  # the device has not come to them yet
                learning = learning or (coming < FEW and self._tries < _TRIES)
        if self._in_a_row:
            cheap = all(allowance.is_cheap for allowance in self.devices.values())
            if self._in_a_row >= (_RUN if cheap else 1):
                return False
        if learning:
            self._tries += 1
            return True
        return (
            not waiting
            and self.host.affords(self._distance)
            and all(
                allowance.cost is None or allowance.affords(self._distance)
                for allowance in self.devices.values()
            )
        )

    def _read(self) -> None:
        """Take on what has become known of devices."""
        for device, costs in self._timers.read():
            allowance = self.devices.setdefault(device, Allowance(self._share, exact=False))
            for cost in costs:
                allowance.learn(max(cost, 0.0), 1.0)

    def spend(self, seconds: float) -> None:
        """Note that a hook took so long."""
        self._thread.spent += seconds

    def end(self, seconds: float) -> None:
        """Note that the pass has ended, which took so long, hooks included."""
        thread = self._thread
        now = thread.spent  # since `take`
        forward = max(seconds - now, 0.0)
        with self._lock:
            for timer, pair in thread.begun:
                timer.end(pair)
            thread.begun = ()
            host = self.first if thread.is_first else self.host
            host.gain(forward)
            if now and host.cost is not None:
                host.pay(now)
            if thread.taken:
                host.learn(now, forward)
            for allowance in self.devices.values():
                allowance.gain(1.0)

    def every_now(self) -> int:
        """Return in how many passes one is taken by now.

        While it is not known what a measured pass costs, it is taken to cost as much as another
        pass.
        """
        with self._lock:
            self._read()
            return max(each.every for each in (self.host, *self.devices.values()))

    def describe(self) -> dict[str, object]:
        """Return what belongs in the metadata of a profile."""
        with self._lock:
            self._read()
            host = self.host if self.host.forward else self.first
            known = [each.spent_share for each in self.devices.values() if each.cost is not None]
        return {
            "budget": self._share,
            "budget_spent": host.spent_share,
            **({"budget_spent_device": max(known)} if known else {}),
            "every": self.passes / self.measured if self.measured else 1.0,
        }

    def reset(self) -> None:
        """Begin anew; what a measured pass costs is known."""
        with self._lock:
            self.passes = self.measured = self._in_a_row = 0
            for allowance in (self.first, self.host, *self.devices.values()):
                allowance.renew()

    def remember(self) -> object:
        """Return what `go_back` takes."""
        with self._lock:
            allowances = copy.copy(self.first), copy.copy(self.host)
            devices = {device: copy.copy(each) for device, each in self.devices.items()}
            counts = {name: getattr(self, name) for name in _COUNTS}
        return counts, allowances, devices

    def go_back(self, remembered: Any) -> None:
        """Be as it was; what is on its way from a device still comes."""
        with self._lock:
            counts, (first, host), devices = remembered
            vars(self).update(counts)
            self.first, self.host = copy.copy(first), copy.copy(host)
            self.devices = {device: copy.copy(each) for device, each in devices.items()}


class _Pass(threading.local):
    """This class notes of the pass of a thread what was decided, and what hooks have spent."""

    taken = True
    is_first = False
    spent = 0.0
    begun: Begun = ()
