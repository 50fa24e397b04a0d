"""`DeviceTimers` tell what measuring a pass costs a GPU, by events on its stream, without a wait.

Events are recorded where a pass begins and ends, and read as later passes begin, once the device
has come to them. They tell how long the whole pass took there, so what measuring costs is the
difference between passes that are measured and passes around them that are not.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from fmstats.tracking.clocks import Clocks

POOL = 16  # pairs of events for a device: while all wait to be read, passes are not timed
_BEFORE = 2  # passes with which measured ones are compared, beside the one after them


class TimedEvent(Protocol):
    """An event of a device, as torch.cuda.Event(enable_timing=True) is one."""

    def record(self, stream: Any = ...) -> None:
        """Have the device come to it behind all work so far."""

    def query(self) -> bool:
        """Return whether the device has come to it."""

    def elapsed_time(self, end: Any) -> float:
        """Return the time between both, once the device has come to them."""


class Contrast:
    """A contrast compares measured passes with those around them that are not measured.

    These are the two before a run of measured passes, and the one after. Both are medians, so that
    it makes no difference that the device is slower for a while, or was disturbed in one pass.
    """

    def __init__(self) -> None:
        self._before: tuple[float, ...] = ()
        self._run: deque[float] = deque(maxlen=POOL)

    def add(self, time: float, measured: bool) -> float | None:
        """Take on the time of the next pass, and return what is known by it, if anything.

        That is what measuring has cost in a run of measured passes, as a multiple of the time of a
        pass without it; below 0 where other things mattered more.
        """
        if measured:
            self._run.append(time)
            return None
        run, around = [*self._run], (*self._before, time)
        self._run.clear()
        self._before = around[-_BEFORE:]
        alone = statistics.median(around)
        return statistics.median(run) / alone - 1 if run and alone > 0 else None

    @property
    def awaited(self) -> int:
        """Return for how many runs the pass after them is still to come: 1 or 0."""
        return 1 if self._run else 0

    @property
    def is_ready(self) -> bool:
        """Return whether the next run has something before it to be compared with."""
        return len(self._before) == _BEFORE


class Pair:
    """A pair are the events where a pass begins and ends on a device.

    Attributes:
        measured: whether the pass is.
    """

    measured: bool

    def __init__(self, begin: TimedEvent, end: TimedEvent) -> None:
        self.begin, self.end = begin, end


class DeviceTimer:
    """This timer times passes on one device, on its current stream.

    Of the passes that are not measured only those around others are timed. A pass that goes into a
    graph has no events, and nothing is asked while one is captured.

    Args:
        device: one that has events.
        runtime: torch's module for it, such as `torch.cuda`.
    """

    def __init__(self, device: torch.device, runtime: Any = None) -> None:
        self._device = device
        self._runtime = torch.get_device_module(device) if runtime is None else runtime
        self._free = [self._make()]  # others as they are needed: the first shows that it can be
        self._made = 1
        self._ended: deque[Pair] = deque()
        self._contrast = Contrast()
        self._measured = 0  # begun and not read yet

    def begin(self, measured: bool) -> Pair | None:
        """Begin to time a pass; None if it need not or cannot be timed."""
        if not measured and self._contrast.is_ready and not self.awaited:
            return None
        if self._is_captured():
            return None
        if not self._free:
            if self._made == POOL:
                return None
            self._free.append(self._make())
            self._made += 1
        pair = self._free.pop()
        pair.measured = measured
        self._measured += measured
        self._record(pair.begin)
        return pair

    def end(self, pair: Pair) -> None:
        """End a pass."""
        if self._is_captured():
            self.drop(pair)
        else:
            self._record(pair.end)
            self._ended.append(pair)

    def drop(self, pair: Pair) -> None:
        """Forget a pass."""
        self._measured -= pair.measured
        self._free.append(pair)

    def read(self) -> list[float]:
        """Return what has become known, see `Contrast.add`."""
        known: list[float] = []
        if not self._ended or self._is_captured():
            return known
        while self._ended and self._ended[0].end.query() and self._ended[0].begin.query():
            pair = self._ended.popleft()
            cost = self._contrast.add(pair.begin.elapsed_time(pair.end), pair.measured)
            known += [] if cost is None else [cost]
            self.drop(pair)
        return known

    @property
    def awaited(self) -> int:
        """Return how many costs are still to become known."""
        return self._measured + self._contrast.awaited

    def _make(self) -> Pair:
        make: Callable[..., TimedEvent] = self._runtime.Event
        return Pair(make(enable_timing=True), make(enable_timing=True))

    def _record(self, event: TimedEvent) -> None:
        current = getattr(self._runtime, "current_stream", None)  # MPS has one stream
        if current is None:
            event.record()
        else:
            event.record(current(self._device))

    def _is_captured(self) -> bool:
        """Return whether work goes into a graph, where nothing may be asked."""
        asked = getattr(self._runtime, "is_current_stream_capturing", None)  # XPU has none
        return asked is not None and bool(asked())


def make_timer(device: torch.device) -> DeviceTimer | None:
    """Make the timer of a device; None if the device has no events that tell the time."""
    try:
        return DeviceTimer(device)
    except (RuntimeError, AttributeError, TypeError):
        return None


Begun = Sequence[tuple[DeviceTimer, Pair]]  # a pass, on all devices that time it


class DeviceTimers:
    """These timers are those of all devices on which a tracker has measured something.

    Args:
        clocks: of the tracker, which know these devices.
        make: makes the timer of a device.
    """

    def __init__(
        self, clocks: Clocks, make: Callable[[torch.device], DeviceTimer | None] = make_timer
    ) -> None:
        self._clocks, self._make = clocks, make
        self._asked = 0  # clocks, to which others are added
        self._timers: dict[torch.device, DeviceTimer] = {}

    @property
    def exist(self) -> bool:
        """Return whether there are any devices."""
        return bool(self._clocks.on_devices)

    def begin(self, measured: bool) -> Begun:
        """Begin to time a pass."""
        begun = [(timer, timer.begin(measured)) for timer in self._timers.values()]
        return [(timer, pair) for timer, pair in begun if pair is not None]

    def read(self) -> list[tuple[torch.device, list[float]]]:
        """Return what has become known of each device that is timed, see `Contrast.add`."""
        for clock in self._clocks.on_devices[self._asked :]:
            device = clock.words.device
            timer = self._make(device)
            if timer is not None:
                self._timers[device] = timer
            self._asked += 1
        return [(device, timer.read()) for device, timer in self._timers.items()]

    def awaited(self, device: torch.device) -> int:
        """Return how many costs are still to become known of a device."""
        return self._timers[device].awaited
