"""`GroupRange` numbers the groups of positions, and knows how many there are."""

from __future__ import annotations

import torch
from torch import Tensor

from fmstats.errors import FmstatsError


class GroupRange:
    """The groups of a tracker, which are numbered from 0 as they come.

    A CPU looks at the groups of each pass. On another device nobody waits for them: the largest
    stays there until it is asked for.

    Args:
        most: how many there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen = 1  # one more than the largest group that the host has seen
        self._largest: dict[torch.device, Tensor] = {}

    def room(self, device: torch.device) -> int:
        """Return for how many groups a state on a device needs room."""
        if not _is_host(device):
            return self._most  # nothing on the host knows which of them come
        room = 1
        while room < self._seen:
            room *= 2
        return min(room, self._most)

    def number(self, groups: Tensor, look: bool = True) -> Tensor:
        """Return the numbers of positions: from 1 on, 0 where one is of no group.

        Args:
            groups: as users count them, from 0 on; what is less is of no group.
            look: whether there is anything to look at.

        Raises:
            FmstatsError: they are no whole numbers, or one that the host can see is too large.
        """
        if groups.is_floating_point() or groups.is_complex() or groups.dtype == torch.bool:
            raise FmstatsError(f"the groups are of {groups.dtype}: give whole numbers")
        groups = groups.detach().to(torch.int64)  # some types hold less than `most`
        if look and groups.numel():
            self._look(groups)
        within = (groups >= 0) & (groups < self._most)
        return torch.where(within, groups + 1, 0).to(torch.uint8).contiguous()

    def _look(self, groups: Tensor) -> None:
        device = groups.device
        if _is_host(device):
            largest = int(groups.max())
            self._check(largest)
            self._seen = max(self._seen, largest + 1)
            return
        found, before = groups.amax(), self._largest.get(device)
        self._largest[device] = found if before is None else torch.maximum(before, found)

    def check(self) -> None:
        """Look at what came on devices, which this waits for.

        Raises:
            FmstatsError: a group was too large; its positions were left out. It is told of once.
        """
        largest, self._largest = self._largest, {}
        for found in largest.values():
            self._check(int(found))

    def _check(self, group: int) -> None:
        if group >= self._most:
            raise FmstatsError(
                f"group {group} is beyond max_groups={self._most}: groups are numbered from 0, and "
                "-1 leaves a position out"
            )


def _is_host(device: torch.device) -> bool:
    return device.type == "cpu"
