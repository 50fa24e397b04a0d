"""`NumbersWay` leads to the numbers of positions without asking where they are in each tensor."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Protocol

from fmstats.operations.position_flow import PositionFlow
from fmstats.operations.spreads import Arrangement
from fmstats.tracking.group_range import GroupRange


class KnowsPass(Protocol):
    """What knows the pass of this thread.

    Attributes:
        groups: which there are.
    """

    groups: GroupRange

    @property
    def current(self) -> PositionFlow | str | None:
        """Return where its positions are; None if all count, or why nobody knows."""


class Updated(Protocol):
    """A row, as a way leads to its next update.

    Attributes:
        lock: held while it is updated with some positions.
        try_update: as of `Meter`.
    """

    lock: Lock
    try_update: Callable[[object], bool]


class NumbersWay:
    """A way leads to the numbers of tensors that come to the same positions in each pass.

    Args:
        reader: knows the pass.
        arrangement: of these tensors.
        room: for how many groups their states have room.

    Attributes:
        arrangement: as given.
    """

    def __init__(self, reader: KnowsPass, arrangement: Arrangement, room: int) -> None:
        self._reader, self.arrangement, self._room = reader, arrangement, room

    def address(self) -> int:
        """Return where the numbers of the pass of this thread are; 0 if they are to be asked for.

        They are as long as the pass is.
        """
        flow = self._reader.current
        if flow is None or isinstance(flow, str) or flow.numbers.followed:
            return 0
        if self._room and self._room != self._reader.groups.room(self.arrangement.device):
            return 0
        numbers = flow.numbers.arranged(self.arrangement)
        return 0 if numbers is None else numbers.data_ptr()

    def lead(self, row: Updated, try_groups: Callable[[object, int], bool]) -> None:
        """Have a row update with an output as `try_groups` does of the numbers of its pass."""
        address, lock = self.address, row.lock

        def try_update(output: object) -> bool:
            # Another thread may change, between both calls, how the numbers are to be read.
            with lock:
                if row.try_update is not try_update:
                    return False
                numbers = address()
                return numbers != 0 and try_groups(output, numbers)

        row.try_update = try_update
