"""`Row` is one row of a profile while it is filled: a layer's tensors of one width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock

import torch
from torch import Tensor

from fmstats.backends import choose_backend, why_chosen
from fmstats.backends.base import Meter, check_input, decline
from fmstats.profiles.profile import LayerProfile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import Positions, View
from fmstats.tracking.gates import Gate
from fmstats.tracking.in_graphs import InGraphs
from fmstats.tracking.layer_spec import LayerSpec
from fmstats.tracking.numbers_way import NumbersWay
from fmstats.tracking.row_groups import RowGroups
from fmstats.tracking.snapshots import RowSnapshot, TensorInfo


class Row:
    """A row has the statistics of a layer's tensors with one and the same number of channels.

    Attributes:
        width: that number.
        call: the call it is of, None for all.
        execution_index: the place of its first call among those of all rows, None if none yet.
        calls: tensors that hooks have measured, see `count_calls`.
        in_graphs: what measures it in graphs, by device.
        try_update: updates at once with an output that is as the last one, see `Meter`.
        lock: held while it is updated with some positions of a tensor.
        unmasked: tensors measured whole, though only some of their positions were to count.
    """

    def __init__(
        self,
        spec: LayerSpec,
        call: int | None,
        width: int,
        execution_index: int | None,
        scale: float,
        gate: Gate,
    ) -> None:
        self._spec, self.call, self.width = spec, call, width
        self.execution_index = execution_index
        self._meters: dict[torch.device, Meter] = {}
        self._groups = RowGroups(width, self._make_state, self._make_meter)
        self._tensor_info = TensorInfo()
        self._restored: State | None = None  # what the first state shall begin with
        self._gate = gate
        self._scale = scale  # of the states: of what is measured, over what is told
        self.try_update: Callable[[object], bool] = decline
        self.lock = Lock()
        self.calls = self.unmasked = 0
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

    def update_groups(
        self,
        x: Tensor,
        view: View,
        dim: int | None,
        positions: Positions,
        room: int,
        way: NumbersWay | None,
    ) -> None:
        """Update the states with those positions of a tensor that are in a group.

        Args:
            x: the tensor, which has a statistic.
            view: how it is read.
            dim: as of `update`.
            positions: the groups; of a mask there is one, which is the row's own.
            room: for how many groups there is to be a state; 0 for a mask.
            way: to the numbers of the next tensor; None if there is none.
        """
        with self.lock:
            self.try_update = decline  # which would take all positions of the next tensor
            meter = self._groups.on(x.device, room) if room else self.meter_on(x.device)
            check_input(meter.state, x, view, positions.groups)
            meter.update_groups(x, view, positions)
            self._tensor_info = self._tensor_info.joined_by(tuple(x.shape), x.dtype, dim)
            if way is not None:
                way.lead(self, meter.try_groups)

    def meter_on(self, device: torch.device) -> Meter:
        """Return what measures on a device, made if there is none yet."""
        if device not in self._meters:
            state = self._make_state(self.width, device)
            self._meters[device] = self._make_meter(device, state)
            self._begin_as_restored(state)
        return self._meters[device]

    def _make_state(self, channels: int, device: torch.device, groups: int = 1) -> State:
        return self._gate.memory.make(channels, device, self._spec.measures, groups)

    def _make_meter(self, device: torch.device, state: State) -> Meter:
        backend = choose_backend(self._spec.backend, device)
        return backend.meter(state, self.thresholds, self._gate.clocks.on(device, backend))

    def note_in_graphs(self, shape: tuple[int, ...], dtype: torch.dtype, dim: int | None) -> None:
        """Note a tensor that graphs measure, whose channels are in `dim`."""
        self._in_graphs_info = self._in_graphs_info.joined_by(shape, dtype, dim)

    def is_captured(self, device: torch.device) -> bool:
        """Tell whether what is measured on a device goes into a graph, which is to count it."""
        return any(m.backend.captures(device) for there, m in self._all_meters() if there == device)

    def _begin_as_restored(self, state: State) -> None:
        """Have an empty state go on from what was restored, if anything was."""
        if self._restored is not None:
            state.begin_with_(self._restored)
            state.scale_(1.0, self._scale)
            self._restored = None

    def backends(self) -> dict[str, str]:
        """Tell which backend served each device that the row was measured on, and why."""
        return {
            str(device): f"{meter.backend.name}: {why_chosen(self._spec.backend, device)}"
            for device, meter in self._all_meters()
        }

    def _all_meters(self) -> list[tuple[torch.device, Meter]]:
        """Return what measures, those of groups last; a pass may add one meanwhile."""
        return [*self._meters.copy().items(), *self._groups.meters]

    @property
    def states(self) -> list[State]:
        """Return what has been seen so far, on each device; those of groups are the last ones.

        The latter have the channels of each group, one group after the other.
        """
        kept = [] if self._restored is None else [self._restored]
        return kept + [meter.state for _, meter in self._all_meters()]

    def whole(self, states: Sequence[State]) -> State:
        """Merge copies of `states`, all groups together."""
        first, *others = map(self._groups.merged, states)
        for other in others:
            first.merge_(other)
        return first

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
        for _, meter in self._all_meters():
            meter.wait()
            meter.state.scale_(before, scale)
        for device, meter in self._meters.items():
            self._meters[device] = self._make_meter(device, meter.state)
        self._groups.renew()

    def wait(self) -> None:
        """Return when all that was measured is in the states."""
        for _, meter in self._all_meters():
            meter.wait()

    def restore(self, saved: LayerProfile, groups: Mapping[int, State]) -> None:
        """Go on from what another run has seen; this row has seen nothing, or was reset.

        Args:
            saved: what it has seen of all groups.
            groups: what of each.
        """
        self._take_calls()
        self._restored, self.calls = saved.stats.state, saved.calls
        self._groups.restore(groups)
        self.unmasked = saved.unmasked
        dims, backends = tuple(sorted(saved.dims.items())), tuple(saved.backend.split(", "))
        self._tensor_info = TensorInfo(saved.shape, saved.dtype, dims, backends)
        for meter in self._meters.values():  # graphs hold the memory of one that is there
            self._begin_as_restored(meter.state)

    def reset(self) -> None:
        """Forget all that was seen."""
        for meter in self._meters.values():
            meter.reset()
        self._groups.reset()
        self._take_calls()
        self._restored, self._tensor_info = None, TensorInfo()
        self.try_update = decline
        self.calls = self.unmasked = 0

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
            self.count_calls(),
            self.execution_index,
            self._tensor_info,
            self._restored,
            self._groups.take_snapshot(),
            self.unmasked,
        )

    def rollback(self, snapshot: RowSnapshot) -> None:
        """Restore the row of a snapshot, after the caller has put back the states of then.

        States made since are empty.
        """
        self.reset()
        self.calls, self.execution_index = snapshot.calls, snapshot.execution_index
        self._tensor_info = snapshot.tensor_info
        self._restored, self.unmasked = snapshot.restored, snapshot.unmasked
        self._groups.rollback(snapshot.groups)
        for meter in self._meters.values():  # of what was restored, one at most is there since
            self._begin_as_restored(meter.state)

    def profile(
        self, states: Sequence[State]
    ) -> tuple[LayerProfile, dict[int, LayerProfile]] | None:
        """Return what has been seen, and what of each group by its number; None if nothing has.

        Args:
            states: copies of `states`, which are changed.
        """
        if not any(state["count"].any() for state in states):
            return None
        for state in states if self._restored is None else states[1:]:
            state.scale_(self._scale, 1.0)
        calls = self.count_calls() + sum(state.replayed for state in states)
        groups = self._groups.by_number(states[len(states) - len(self._groups.meters) :])
        whole = self._profile(self.whole(states), calls)
        return whole, {number: self._profile(state, calls) for number, state in groups.items()}

    def _profile(self, state: State, calls: int) -> LayerProfile:
        seen = self._tensor_info if self._tensor_info.shape else self._in_graphs_info
        backends = [*seen.backends, *(meter.backend.name for _, meter in self._all_meters())]
        dims = dict(seen.dims)
        return LayerProfile(
            type=self._spec.type,
            channel_dim=dims.pop(len(seen.shape), 0),
            shape=seen.shape,
            dtype=seen.dtype,
            calls=calls,
            backend=", ".join(dict.fromkeys(backends)),
            stats=ChannelStats(state, self._spec.thresholds),
            layer=self._spec.row_name,
            call=self.call,
            other_dims=tuple(dims.items()),
            unmasked=self.unmasked,
        )
