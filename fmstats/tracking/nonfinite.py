"""`NonFiniteWatch` tells the user of a layer in which the first NaN or infinity has come.

On a CPU it looks as soon as a layer was measured, so within the forward pass: a kernel that meets
such an element sets the alarm of its clock (`fmstats.statistic.clock`), and one comparison a layer
asks for it. On a GPU nothing waits: as a forward pass begins, the alarm is copied to the host
beside all other work, and looked at as later passes begin, once it has come.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from fmstats.errors import FmstatsError
from fmstats.operations.channel_flow import Origin
from fmstats.output.tables import format_plural
from fmstats.statistic.clock import Clock
from fmstats.statistic.fields import NEVER, NON_FINITE
from fmstats.statistic.state import State, copy_to_host
from fmstats.tracking.clocks import Clocks
from fmstats.tracking.gates import Updatable
from fmstats.tracking.layers import Layer
from fmstats.tracking.per_call import PerCall
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
            was made; 0 where a layer was called before any, or without the model.
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
        """Return what orders events: the step, 0 without one, and the forward pass."""
        return self.step or 0, self.forward_pass

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
    """

    def __init__(
        self, asked: str | Action, clocks: Clocks, list_layers: Callable[[], Iterable[Layer]]
    ) -> None:
        self._act = action_of(asked)
        self._clocks, self._list_layers = clocks, list_layers
        self._known: set[Row] = set()
        self._last = (-1, -1)  # the step and pass of which the user was told last
        self._flags: dict[torch.device, Flag] = {}

    @property
    def is_alarmed(self) -> bool:
        """Return whether anything that was measured on the CPU was not finite."""
        return self._clocks.is_alarmed

    def look_at(self, layer: Layer) -> None:
        """Tell of the rows of a layer that was measured on the CPU."""
        self._tell(self._find([layer], lambda state: state.words.is_cpu))

    def begin_pass(self) -> None:
        """Look at the alarms of GPUs that have come, without waiting, and ask for the next."""
        for clock in self._clocks.on_devices:
            device = clock.words.device
            flag = self._flags.get(device) or self._flags.setdefault(device, Flag(clock))
            if flag.is_up():
                found = self._find(self._list_layers())
                flag.take_down()
                self._tell(found)
            flag.ask()

    def close(self) -> None:
        """Wait for GPUs, and tell of what has come."""
        if self._clocks.on_devices:
            self._tell(self._find(self._list_layers()))

    def skip(self) -> None:
        """Take what all rows have now for known: another tracker has told of it."""
        self._find(self._list_layers())

    def _find(
        self, layers: Iterable[Layer], chosen: Callable[[State], bool] = lambda state: True
    ) -> list[tuple[int, NonFiniteEvent]]:
        """Return the rows that are not finite since the last time, by their execution indices."""
        rows = [(each, row) for each in layers for row in each.rows if row not in self._known]
        states = [[state for state in row.states if chosen(state)] for _, row in rows]
        copies = iter(copy_to_host([state for some in states for state in some]))
        found = []
        for (layer, row), some in zip(rows, states, strict=True):
            event = _event_of(layer, [next(copies) for _ in some])
            if event is not None:
                self._known.add(row)
                found.append((row.execution_index or 0, event))
        return found

    def _tell(self, found: list[tuple[int, NonFiniteEvent]]) -> None:
        for _, event in sorted(found, key=lambda each: (each[1].time, each[0])):
            if event.time > self._last:
                self._last = event.time
                self._act(event)


def _event_of(layer: Layer, states: list[State]) -> NonFiniteEvent | None:
    """Return what is to be told of a row with these states; None if it is finite."""
    whole = State.identity(states[0].channels) if states else State.identity(0)
    for state in states:
        whole.merge_(state)
    steps, passes = whole["first_step"], whole["first_pass"]
    if not (passes < NEVER).any():
        return None
    step = int(steps.min())
    number = int(passes[steps == step].min())
    born = (steps == step) & (passes == number)
    return NonFiniteEvent(
        layer=layer.name,
        operation=layer.spec.type,
        forward_pass=number,
        step=None if step == NEVER else step,
        channels=tuple(born.nonzero().flatten().tolist()),
        **{field: int(whole[field][born].sum()) for field in NON_FINITE},
    )


class Guarded:
    """A guarded layer stands for another, and has the watch look at it after each update."""

    def __init__(self, layer: Layer | PerCall, watch: NonFiniteWatch) -> None:
        self._layer, self._watch = layer, watch

    def update(self, output: object) -> None:
        """Update the layer, and look whether that was finite.

        Raises:
            NonFiniteError: it was not, and the user asked for the error.
        """
        layer = self._layer.claim()
        layer.update(output)
        if self._watch.is_alarmed and isinstance(layer, Layer):
            self._watch.look_at(layer)

    def skip(self, reason: str) -> None:
        """Say why an output was not measured."""
        self._layer.skip(reason)

    def fail(self, error: Exception) -> None:
        """Stop measuring the layer."""
        self._layer.fail(error)

    def claim(self) -> Updatable:
        """Return what an output of this call is for, guarded."""
        layer = self._layer.claim()
        return Guarded(layer, self._watch) if isinstance(layer, Layer) else layer

    def expect(self, count: int, origin: Origin) -> None:
        """Note where the channels of tensors are that are to come, by their number of dims."""
        self._layer.expect(count, origin)

    def rescale(self, scale: float) -> None:
        """Take outputs for `scale` times what is to be told of them, from now on."""
        self._layer.rescale(scale)


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
            self._copy.copy_(self._clock.words[-1:], non_blocking=True)
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
