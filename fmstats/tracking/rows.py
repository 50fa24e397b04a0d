"""`Row` is one row of a profile while it is filled: a layer's tensors of one width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fmstats.backends import choose_backend, why_chosen
from fmstats.backends.base import Meter, check_input, decline
from fmstats.models.channel_dims import ChannelRule
from fmstats.profiles.profile import LayerProfile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import View
from fmstats.tracking.clocks import Clocks


@dataclass(frozen=True)
class LayerSpec:
    """A spec tells what is to be measured at one layer.

    Attributes:
        type: the module's class name.
        channels: the dim of the channels, or the rule that finds it.
        of: what is measured, "output" or "input".
        backend: a backend's name, or "auto".
        on_error: "raise" or "warn".
        left_out: why some of its tensors were not measured, if that is known from the start.
    """

    name: str
    type: str
    channels: ChannelRule | int
    thresholds: Thresholds
    of: str
    backend: str
    on_error: str
    left_out: str | None = None


@dataclass(frozen=True)
class TensorInfo:
    """`TensorInfo` holds what a profile says of a row's tensors beside their statistics.

    Attributes:
        shape, dtype: of the last one.
        dims: the dim of the channels by the number of dims, None where all is one channel.
        backends: that measured what was restored.
    """

    shape: tuple[int, ...] = ()
    dtype: str = ""
    dims: tuple[tuple[int, int | None], ...] = ()
    backends: tuple[str, ...] = ()

    def joined_by(self, shape: tuple[int, ...], dtype: torch.dtype, dim: int | None) -> TensorInfo:
        """Return what is known with a further tensor, whose channels are in `dim`."""
        dims = tuple(sorted({**dict(self.dims), len(shape): dim}.items()))
        return TensorInfo(shape, str(dtype).removeprefix("torch."), dims, self.backends)


@dataclass(frozen=True)
class RowSnapshot:
    """`RowSnapshot` holds a row as it was at some time, without its states, copied apart.

    Attributes:
        calls, execution_index: as of `Row`.
        tensor_info: what was noted of its tensors.
        restored: what its first state was to begin with.
    """

    calls: int = 0
    execution_index: int | None = None
    tensor_info: TensorInfo = TensorInfo()
    restored: State | None = None


class InGraphs(Protocol):
    """What measures a row in graphs."""

    number: int

    def take_calls(self) -> int:
        """Return how many tensors went past the hook since this was asked last."""

    def close(self) -> None:
        """Measure no more, whatever graphs go on calling."""


class Row:
    """A row has the statistics of a layer's tensors with one and the same number of channels.

    Attributes:
        width: that number.
        call: the call it is of, None for all.
        execution_index: the place of its first call among those of all rows, None if none yet.
        calls: tensors that hooks have measured, see `count_calls`.
        in_graphs: what measures it in graphs, by device.
        try_update: updates at once with an output that is as the last one, see `Meter`.
    """

    def __init__(
        self,
        spec: LayerSpec,
        call: int | None,
        width: int,
        execution_index: int | None,
        scale: float,
        clocks: Clocks,
    ) -> None:
        self._spec, self.call, self.width = spec, call, width
        self.execution_index = execution_index
        self._meters: dict[torch.device, Meter] = {}
        self._tensor_info = TensorInfo()
        self._restored: State | None = None  # what the first state shall begin with
        self._clocks = clocks
        self._scale = scale  # of the states: of what is measured, over what is told
        self.try_update: Callable[[object], bool] = decline
        self.calls = 0
        self.in_graphs: dict[torch.device, InGraphs] = {}
        self._expected: tuple[tuple[int, ...], torch.dtype, int | None] | None = None
        self._in_graphs_info = TensorInfo()  # of tensors that graphs measure, which none tells of

    def update(self, x: Tensor, view: View, dim: int | None) -> None:
        """Update the states with a tensor that has a statistic.

        Args:
            x: the tensor.
            view: how it is read.
            dim: of its channels, of which there are `width`; None where all is one channel.
        """
        self.try_update = decline  # to other threads, as long as the meter changes its mind
        meter = self.meter_on(x.device)
        check_input(meter.state, x, view)
        meter.update(x, view)
        self._expected = tuple(x.shape), x.dtype, dim
        self._tensor_info = self._tensor_info.joined_by(*self._expected)
        self.try_update = meter.try_update

    def meter_on(self, device: torch.device) -> Meter:
        """Return what measures on a device, made if there is none yet."""
        if device not in self._meters:
            state = State.identity(self.width, device)
            backend = choose_backend(self._spec.backend, device)
            clock = self._clocks.on(device, backend)
            self._meters[device] = backend.meter(state, self.thresholds, clock)
            self._begin_as_restored(state)
        return self._meters[device]

    def note_in_graphs(self, shape: tuple[int, ...], dtype: torch.dtype, dim: int | None) -> None:
        """Note a tensor that graphs measure, whose channels are in `dim`."""
        self._in_graphs_info = self._in_graphs_info.joined_by(shape, dtype, dim)

    def is_captured(self, device: torch.device) -> bool:
        """Tell whether what is measured on a device goes into a graph, which is to count it."""
        return self._meters[device].backend.captures(device)

    def _begin_as_restored(self, state: State) -> None:
        """Have an empty state go on from what was restored, if anything was."""
        if self._restored is not None:
            state.words.copy_(self._restored.words)
            _scale_(state, 1.0, self._scale)
            self._restored = None

    def backends(self) -> dict[str, str]:
        """Tell which backend served each device that the row was measured on, and why."""
        return {
            str(device): f"{meter.backend.name}: {why_chosen(self._spec.backend, device)}"
            for device, meter in tuple(self._meters.items())  # a pass may add one
        }

    @property
    def states(self) -> list[State]:
        """Return what has been seen so far, on each device."""
        kept = [] if self._restored is None else [self._restored]
        return kept + [meter.state for meter in self._meters.values()]

    @property
    def thresholds(self) -> Thresholds:
        """Return what counts as zero and as saturated among tensors as they are measured."""
        asked, scale = self._spec.thresholds, self._scale
        low, high = (None if b is None else b * scale for b in (asked.low, asked.high))
        return Thresholds(asked.zero_tol * scale, low, high)

    def rescale(self, scale: float) -> None:
        """Take tensors for `scale` times what is to be told of them, from now on.

        What was measured under another scale is multiplied, which is exact for powers of two.
        """
        before, self._scale = self._scale, scale
        self.try_update = decline
        for device, meter in self._meters.items():
            meter.wait()
            _scale_(meter.state, before, scale)
            self._meters[device] = meter.backend.meter(meter.state, self.thresholds, meter.clock)

    def wait(self) -> None:
        """Return when all that was measured is in the states."""
        for meter in self._meters.values():
            meter.wait()

    def restore(self, saved: LayerProfile) -> None:
        """Go on from what another run has seen; this row has seen nothing, or was reset."""
        self._take_calls()
        self._restored, self.calls = saved.stats.state, saved.calls
        dims = tuple(sorted(saved.dims.items()))
        self._tensor_info = TensorInfo(
            saved.shape, saved.dtype, dims, tuple(saved.backend.split(", "))
        )
        for meter in self._meters.values():  # graphs hold the memory of one that is there
            self._begin_as_restored(meter.state)

    def reset(self) -> None:
        """Forget all that was seen."""
        for meter in self._meters.values():
            meter.reset()
        self._take_calls()
        self._restored, self._tensor_info = None, TensorInfo()
        self.try_update = decline
        self.calls = 0

    def count_calls(self) -> int:
        """Count the tensors measured, but for those that graphs have measured in replays."""
        self._take_calls()
        return self.calls

    def close_graphs(self) -> None:
        """Measure no more in graphs, whatever they go on calling."""
        for there in tuple(self.in_graphs.values()):
            there.close()

    def _take_calls(self) -> None:
        for there in tuple(self.in_graphs.values()):
            calls = there.take_calls()
            self.calls += calls
            if calls and self._expected is not None:  # they were all as the last one of `update`
                self._tensor_info = self._tensor_info.joined_by(*self._expected)

    def take_snapshot(self) -> RowSnapshot:
        """Return what `rollback` needs beside the states to restore the row of now."""
        return RowSnapshot(
            self.count_calls(), self.execution_index, self._tensor_info, self._restored
        )

    def rollback(self, snapshot: RowSnapshot) -> None:
        """Restore the row of a snapshot, after the caller has put back the states of then.

        States made since are empty.
        """
        self.reset()
        self.calls, self.execution_index = snapshot.calls, snapshot.execution_index
        self._tensor_info = snapshot.tensor_info
        self._restored = snapshot.restored
        for meter in self._meters.values():  # of what was restored, one at most is there since
            self._begin_as_restored(meter.state)

    def profile(self, states: Sequence[State]) -> LayerProfile | None:
        """Return what has been seen, or None if nothing has.

        Args:
            states: copies of `states`.
        """
        if not any(state["count"].any() for state in states):
            return None
        for state in states if self._restored is None else states[1:]:
            _scale_(state, self._scale, 1.0)
        calls = self.count_calls() + sum(state.replayed for state in states)
        whole, *others = states
        for other in others:
            whole.merge_(other)
        seen = self._tensor_info if self._tensor_info.shape else self._in_graphs_info
        backends = [*seen.backends, *(m.backend.name for m in self._meters.values())]
        dims = dict(seen.dims)
        return LayerProfile(
            type=self._spec.type,
            channel_dim=dims.pop(len(seen.shape), 0),
            shape=seen.shape,
            dtype=seen.dtype,
            calls=calls,
            backend=", ".join(dict.fromkeys(backends)),
            stats=ChannelStats(whole, self._spec.thresholds),
            layer=self._spec.name,
            call=self.call,
            other_dims=tuple(dims.items()),
        )


def _scale_(state: State, before: float, after: float) -> None:
    """Turn the state of what was multiplied by `before` into that of it times `after`."""
    if before == after:
        return
    for field in ("mean", "min", "max", "m2", "m2"):  # that of squares twice
        state[field].mul_(after).div_(before)
