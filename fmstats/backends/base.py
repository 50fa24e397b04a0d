"""`Backend` and `Meter` tell what every backend promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fmstats.backends import folding
from fmstats.errors import FmstatsError
from fmstats.statistic.clock import Clock
from fmstats.statistic.measures import ALWAYS, Measures
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import Positions, View

# The dtypes whose elements have the statistic; all others are skipped with a reason.
DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
)


class Backend:
    """A backend updates states with tensors.

    Attributes:
        name: what users type.
        devices: device types it serves; empty for every type.
        in_graphs: whether its work may go into graphs that are captured and replayed.
    """

    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = ()
    in_graphs: ClassVar[bool] = False

    def why_not(self, device: torch.device | None = None) -> str | None:
        """Tell why it cannot be used here, on `device` if one is given; None if it can."""
        return None

    def describe(self) -> str:
        """Tell people what it runs with."""
        raise NotImplementedError

    def serves(self, device: torch.device) -> bool:
        """Tell whether tensors of this `device` are for this backend."""
        return not self.devices or device.type in self.devices

    def accumulate(
        self,
        state: State,
        x: Tensor,
        view: View,
        thresholds: Thresholds,
        clock: Clock | None = None,
        positions: Positions | None = None,
    ) -> None:
        """Update `state` in place with `x`, read as `view`, on the tensor's device.

        Empty tensors change nothing. The caller has asked `why_unmeasurable` and `check_input`.

        Args:
            state: what has been seen so far.
            x: a strided tensor of one of `DTYPES`; it is not changed.
            view: how to read it as channels x positions.
            thresholds: what counts as zero and as saturated.
            clock: of the tensor's device; None: the time is not known.
            positions: the group that each belongs to, if any: the state has the channels of the
                view for each group. What is at positions of no group is not seen. None: all count.
        """
        raise NotImplementedError

    def warm_up(
        self,
        device: torch.device,
        dtype: torch.dtype,
        thresholds: Thresholds,
        measures: Measures = ALWAYS,
    ) -> None:
        """Compile what tensors of a device and dtype most likely need, so that none waits for it.

        What they need beside is compiled when it is needed. Nothing is launched.

        Args:
            device: of the tensors to come.
            dtype: of the tensors to come.
            thresholds: what will count as zero and as saturated.
            measures: what will be measured beside what always is.
        """

    def captures(self, device: torch.device) -> bool:
        """Tell whether work on a device goes into a graph that is being captured.

        Args:
            device: of tensors that this backend measures.
        """
        return False

    def begin_pass(self, clock: Clock) -> None:
        """Begin a pass by work on the clock's device, which a graph may hold and replay.

        It is the next of so many, of which the first is measured; of a clock that is not enabled,
        nothing is done.

        Args:
            clock: whose gate the graph's launches ask.
        """
        clock.begin_pass()

    def prepare_fold(self, device: torch.device) -> None:
        """Compile and load what `fold` needs, so that a graph can capture it.

        Args:
            device: where it will fold.
        """

    def fold(
        self,
        partials: Sequence[Tensor],
        states: Sequence[Tensor],
        clock: Tensor,
        positions: Sequence[int],
        modes: Sequence[int],
    ) -> None:
        """Merge the partials of layers into their states, by work on the device.

        A graph may hold and replay it: where the gate of the clock is closed, nothing is done.

        Args:
            partials: int32 of (words, planes, channels) for each layer, as `statistic/partials.py`
                tells, on one device and contiguous. Counts are packed as `Packing.of` says for the
                positions of a plane.
            states: the memory of each layer's `State`; one may come more than once.
            clock: the words of the `Clock` of the device.
            positions: how many elements each channel of a layer has in all planes together, 1 or
                more.
            modes: the place of each layer's mode in `MODES`.
        """
        folding.fold(partials, states, clock, positions, modes)

    def meter(self, state: State, thresholds: Thresholds, clock: Clock | None = None) -> Meter:
        """Make the meter that updates `state` with the tensors of one layer.

        Args:
            state: of the layer, filled in place.
            thresholds: what counts as zero and as saturated, of all tensors of the layer.
            clock: of the state's device; None: the time is not known.
        """
        return Meter(self, state, thresholds, clock)


class Meter:
    """A meter updates one state with the tensors of one layer.

    Attributes:
        backend: what measures.
        state: where to.
        clock: what time it is there.
        try_update: updates with an output at once if it is a plain tensor of the same device,
            dtype, shape and strides as the last one. False if it is anything else, or if the
            backend has no such way: then nothing was done, and `update` is to be called.
        try_groups: the same of a tensor and the address of the numbers of its positions, which
            are as those of the last `update_groups`.
        plan: the native object that does it, which graphs may call; None if there is none.
    """

    def __init__(
        self, backend: Backend, state: State, thresholds: Thresholds, clock: Clock | None = None
    ) -> None:
        self.backend, self.state, self._thresholds = backend, state, thresholds
        self.clock = Clock(state.words.device) if clock is None else clock
        self.try_update: Callable[[object], bool] = decline
        self.try_groups: Callable[[object, int], bool] = decline
        self.plan: object = None

    def update(self, x: Tensor, view: View) -> None:
        """Update the state with `x`, read as `view`; `check_input` has passed it."""
        self.backend.accumulate(self.state, x, view, self._thresholds, self.clock)

    def update_groups(self, x: Tensor, view: View, positions: Positions) -> None:
        """Update the state with those positions of a tensor that are in a group.

        Args:
            x: the tensor, which `check_input` has passed.
            view: how it is read.
            positions: the group of each of its positions.
        """
        self.backend.accumulate(self.state, x, view, self._thresholds, self.clock, positions)

    def wait(self) -> None:
        """Return when all that was measured is in the state, whatever stream it was measured on."""

    def reset(self) -> None:
        """Forget all that was measured, in place: a CUDA graph may go on filling the state."""
        self.wait()
        self.state.reset_()
        self.wait()  # the next update may be on another stream


def decline(output: object, numbers: int = 0) -> bool:
    """Decline whatever comes: the `try_update` of a meter that has none of its own."""
    return False


def check_input(state: State, x: Tensor, view: View, groups: int = 1) -> None:
    """Refuse a tensor that does not fit a state; whether it has statistics was asked before.

    Args:
        state: it is to be updated with the tensor.
        x: the tensor, which `why_unmeasurable` has passed.
        view: how it is to be read.
        groups: of its positions.

    Raises:
        FmstatsError: other channels, or another device.
    """
    if view.channels * groups != state.channels:
        of = f"{view.channels} channels" + (f" in {groups} groups" if groups > 1 else "")
        raise FmstatsError(f"a tensor of {of} cannot join statistics of {state.channels}")
    if x.device != state.words.device:
        raise FmstatsError(f"a tensor on {x.device} cannot join statistics on {state.words.device}")


def why_unmeasurable(x: Tensor) -> str | None:
    """Why a tensor has no statistics, however it is read, as in "is int64"; None if it has."""
    if x.is_nested:
        return "is a nested tensor"
    if x.dtype not in DTYPES:
        return f"is {str(x.dtype).removeprefix('torch.')}"
    if x.layout != torch.strided:
        return f"is {str(x.layout).removeprefix('torch.')}, not strided"
    if x.is_meta:
        return "is on the meta device, without data"
    if x._is_zerotensor():
        return "is a tensor of zeros without memory"
    return None
