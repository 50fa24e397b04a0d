"""`RowGroups` keeps the states of the groups that the positions of a row's tensors are in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from fmstats.backends.base import Meter
from fmstats.statistic.groups import merge_groups, split_groups
from fmstats.statistic.state import State


@dataclass(frozen=True)
class GroupsSnapshot:
    """`GroupsSnapshot` holds what is known of groups at some time, without their states.

    Attributes:
        meters: by their device.
        restored: what another run had seen, by the number of the group.
    """

    meters: Mapping[torch.device, Meter] = field(default_factory=dict)
    restored: Mapping[int, State] = field(default_factory=dict)


class RowGroups:
    """The groups of one row: on each device a state that has the channels of each of them.

    Args:
        width: channels of a group.
        make_state: makes an empty state of so many channels on a device, in so many groups.
        make_meter: makes what measures on a device, given the state that it is to fill.
    """

    def __init__(
        self,
        width: int,
        make_state: Callable[[int, torch.device, int], State],
        make_meter: Callable[[torch.device, State], Meter],
    ) -> None:
        self._width, self._make_state, self._make_meter = width, make_state, make_meter
        self._meters: dict[torch.device, Meter] = {}
        self._restored: Mapping[int, State] = {}

    @property
    def meters(self) -> list[tuple[torch.device, Meter]]:
        """Return what measures on each device; a pass may add one meanwhile."""
        return list(self._meters.copy().items())

    def on(self, device: torch.device, room: int) -> Meter:
        """Return what measures on a device, with room for so many groups or more."""
        before = self._meters.get(device)
        if before is not None and before.state.channels >= room * self._width:
            return before
        state = self._make_state(room * self._width, device, room)
        if before is not None:
            before.wait()
            state.begin_with_(before.state)
        meter = self._meters[device] = self._make_meter(device, state)
        return meter

    def renew(self) -> None:
        """Make the meters anew, on the states that there are."""
        for device, meter in self.meters:
            self._meters[device] = self._make_meter(device, meter.state)

    def restore(self, groups: Mapping[int, State]) -> None:
        """Go on from what another run has seen of groups, by their numbers."""
        self._restored = dict(groups)

    def reset(self) -> None:
        """Forget all that was seen."""
        for _, meter in self.meters:
            meter.reset()
        self._restored = {}

    def take_snapshot(self) -> GroupsSnapshot:
        """Return what `rollback` needs beside the states."""
        return GroupsSnapshot(dict(self._meters), self._restored)

    def rollback(self, snapshot: GroupsSnapshot) -> None:
        """Go back to the meters of a snapshot, whose states the caller fills."""
        self._meters, self._restored = dict(snapshot.meters), snapshot.restored

    def merged(self, state: State) -> State:
        """Merge the groups of a copy of a state; one of the row alone is returned as it is."""
        return state if state.channels == self._width else merge_groups(state, self._width)

    def by_number(self, states: Sequence[State]) -> dict[int, State]:
        """Return the states of the groups that have any element, by their numbers from 0.

        Args:
            states: copies of those of `meters`.
        """
        found = {number: state.clone() for number, state in self._restored.items()}
        for state in states:
            for number, group in enumerate(split_groups(state, self._width)):
                if number in found:
                    found[number].merge_(group)
                elif group["count"].any():
                    found[number] = group.clone()
        return dict(sorted(found.items()))
