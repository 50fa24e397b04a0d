"""`NonFiniteWatch` tells the user of a layer in which the first NaN or infinity has come.

On a CPU it looks as soon as a layer was measured, so within the forward pass: a kernel that meets
such an element sets the alarm of its clock (`fmstats.statistic.clock`), and one comparison a layer
asks for it. On a GPU nothing waits: as a forward pass begins, the alarm is copied to the host
beside all other work, and looked at as later passes begin, once it has come.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from fmstats.errors import FmstatsError
from fmstats.output.tables import format_plural
from fmstats.statistic.fields import NEVER, NON_FINITE
from fmstats.statistic.host_copies import copy_to_host
from fmstats.statistic.state import State
from fmstats.tracking.aside import aside
from fmstats.tracking.clocks import Clocks
from fmstats.tracking.flags import Flag
from fmstats.tracking.gates import StandIn, Updatable
from fmstats.tracking.layers import Layer
from fmstats.tracking.rows import Row

ACTIONS = ("ignore", "warn", "raise")
_SHOWN = 8  # channels in a text


@dataclass(frozen=True)
class NonFiniteEvent:
    """An event tells in which layer the first elements came that are NaN or infinite.

    Attributes:
        layer: the name of the layer, and the number of the call under `per_call`.
        operation: the type of the module, or the name of the operation.
        forward_pass: the number of the forward pass of the model, counted from 1 since the tracker
            was made; 0 before any. Only passes that `when` asks for are counted, and none while the
            tracker is paused. A layer that is called without the model is of the last pass.
        step: what `Tracker.step` was, None if it was not set.
        channels: those that have some since that pass.
        nan, pos_inf, neg_inf: elements of these channels up to now. On a CPU that is of this pass.
    """

    layer: str
    operation: str
    forward_pass: int
    step: int | None
    channels: tuple[int, ...]
    nan: int
    pos_inf: int
    neg_inf: int

    @property
    def time(self) -> tuple[int, int]:
        """Return what orders events: the forward pass, and the step, 0 without one."""
        return self.forward_pass, self.step or 0

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.channels[:_SHOWN]))
        more = ", ..." if len(self.channels) > _SHOWN else ""
        step = "" if self.step is None else f", in step {self.step:,}"
        step += f", in forward pass {self.forward_pass:,}" if self.forward_pass else ""
        return (
            f"layer {self.layer!r} ({self.operation}) has its first elements that are not finite: "
            f"{self.nan:,} NaN, {self.pos_inf:,} +inf and {self.neg_inf:,} -inf in "
            f"{format_plural(len(self.channels), 'channel')} ({shown}{more}){step}"
        )


class NonFiniteError(FmstatsError):
    """A layer has its first NaN or infinity, and `on_nonfinite="raise"` was asked for.

    Attributes:
        event: what is known of it.
    """

    def __init__(self, event: NonFiniteEvent) -> None:
        super().__init__(str(event))
        self.event = event


Action = Callable[[NonFiniteEvent], object]


def check_action(asked: object) -> None:
    """Refuse what cannot be done about an element that is not finite.

    Raises:
        FmstatsError: it is none of `ACTIONS`, nor a function.
    """
    if asked not in ACTIONS and not callable(asked):
        raise FmstatsError(
            f"on_nonfinite={asked!r}: choose 'ignore', 'warn', 'raise', or a function that takes a "
            "fmstats.NonFiniteEvent"
        )


def action_of(asked: str | Action) -> Action:
    """Return what is to be done about an event, as a function."""
    known: dict[str, Action] = {"ignore": _ignore, "warn": _warn, "raise": _raise}
    return known[asked] if isinstance(asked, str) else asked


def _ignore(event: NonFiniteEvent) -> None:
    """Do nothing."""


def _warn(event: NonFiniteEvent) -> None:
    warnings.warn(f"fmstats: {event}", RuntimeWarning, stacklevel=2)


def _raise(event: NonFiniteEvent) -> None:
    raise NonFiniteError(event)


class NonFiniteWatch:
    """Looks for rows that are not finite any more, and tells the user of the first of each pass.

    Of the rows that have their first such elements in one pass, the user is told of the one that
    ran first: the others received them, or come after it. No row is told of twice.

    Args:
        asked: "warn", "raise" or a function.
        clocks: of the tracker.
        list_layers: returns its layers.

    Attributes:
        alarm: an array of a number that is not 0 once anything on the CPU was not finite.
    """

    def __init__(
        self, asked: str | Action, clocks: Clocks, list_layers: Callable[[], Iterable[Layer]]
    ) -> None:
        self._act = action_of(asked)
        self._clocks, self._list_layers = clocks, list_layers
        self.alarm = clocks.host.alarm
        self._known: set[Row] = set()
        self._last: tuple[int, int] | None = None  # the time of which the user was told last
        self._finding = threading.Lock()  # two threads must not tell of one row
        self._flags: dict[torch.device, Flag] = {}

    def look_at(self, layer: Layer) -> None:
        """Tell of the rows of a layer that was measured on the CPU."""
        with aside():
            if not any(map(_is_broken_on_cpu, self._unknown_states(layer))):
                return  # the alarm stays, so that all others are looked at after each update
        self._tell(self._find([layer], _is_broken_on_cpu))

    def _unknown_states(self, layer: Layer) -> Iterable[State]:
        return (state for row in layer.rows if row not in self._known for state in row.states)

    def begin_pass(self) -> None:
        """Look at the alarms of GPUs that have come, without waiting, and ask for the next."""
        if self._clocks.on_devices:
            with aside():
                events = self._read_flags()
            self._tell(events)

    def _read_flags(self) -> list[NonFiniteEvent]:
        events = []
        for clock in self._clocks.on_devices:
            device = clock.words.device
            flag = self._flags.get(device) or self._flags.setdefault(device, Flag(clock))
            if flag.is_up():
                flag.take_down()  # before the look, or an alarm between both would be lost
                events += self._find(self._list_layers())
            flag.ask()
        return events

    def close(self) -> None:
        """Wait for GPUs, and tell of what has come."""
        if self._clocks.on_devices:
            self._tell(self._find(self._list_layers()))

    def skip(self) -> None:
        """Take what all rows have now for known: another tracker has told of it."""
        self._find(self._list_layers())
        self._last = None

    def forget(self) -> None:
        """Take nothing for known: the rows have forgotten all that they saw."""
        self._known.clear()
        self._last = None

    def _find(
        self, layers: Iterable[Layer], chosen: Callable[[State], bool] = lambda state: True
    ) -> list[NonFiniteEvent]:
        """Return what is new to the user since the last time, in the order of time."""
        with self._finding, aside():
            rows = [(each, row) for each in layers for row in each.rows if row not in self._known]
            states = [[state for state in row.states if chosen(state)] for _, row in rows]
            copies = iter(copy_to_host([state for some in states for state in some]))
            found = []
            for (layer, row), some in zip(rows, states, strict=True):
                event = _event_of(layer, row.whole([next(copies) for _ in some])) if some else None
                if event is not None:
                    self._known.add(row)
                    found.append((event.time, row.execution_index or 0, event))
            new = []
            for time, _, event in sorted(found, key=lambda each: each[:2]):
                if time != self._last:
                    self._last = time
                    new.append(event)
            return new

    def _tell(self, events: Iterable[NonFiniteEvent]) -> None:
        for event in events:
            self._act(event)


def _is_broken_on_cpu(state: State) -> bool:
    """Return whether a state on the CPU has a time; quickly, since most have none."""
    return state.words.is_cpu and bool((state["first_pass"].numpy() < NEVER).any())


def _event_of(layer: Layer, whole: State) -> NonFiniteEvent | None:
    """Return what is to be told of a row with this state; None if it is finite."""
    passes, steps = whole["first_pass"], whole["first_step"]
    if not (passes < NEVER).any():
        return None
    number = int(passes.min())
    step = int(steps[passes == number].min())
    born = (passes == number) & (steps == step)
    return NonFiniteEvent(
        layer=layer.name,
        operation=layer.spec.type,
        forward_pass=number,
        step=None if step == NEVER else step,
        channels=tuple(born.nonzero().flatten().tolist()),
        **{field: int(whole[field][born].sum()) for field in NON_FINITE},
    )


class Guarded(StandIn):
    """This layer stands for another, and has the watch look at it after each update."""

    why_in_python = "for on_nonfinite="

    def __init__(self, layer: Updatable, watch: NonFiniteWatch) -> None:
        super().__init__(layer)
        self._watch, self._alarm = watch, watch.alarm

    def update(self, output: object) -> None:
        """Update the layer, and look whether that was finite.

        Raises:
            NonFiniteError: it was not, and the user asked for the error.
        """
        layer = self.layer.claim()
        layer.update(output)
        if self._alarm[0] and isinstance(layer, Layer):
            self._watch.look_at(layer)

    def claim(self) -> Updatable:
        """Return what an output of this call is for, guarded."""
        layer = self.layer.claim()
        return Guarded(layer, self._watch) if isinstance(layer, Layer) else layer
