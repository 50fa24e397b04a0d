"""`StateMemory` makes the states of a tracker, and says what their histograms take."""

from __future__ import annotations

import warnings
from collections import Counter

import torch

from fmstats.output.tables import format_count
from fmstats.statistic.measures import Measures
from fmstats.statistic.room import NOTABLE, check_room, suggest_smaller
from fmstats.statistic.state import State


class StateMemory:
    """A state memory counts the histograms of all layers of a tracker, as rows come.

    How wide a layer is nobody knows before its first tensor.
    """

    def __init__(self) -> None:
        self._histograms: Counter[torch.device] = Counter()
        self._told = False

    def make(
        self, channels: int, device: torch.device, measures: Measures, groups: int = 1
    ) -> State:
        """Make an empty state, as `State.identity` does.

        Before histograms of all layers together take more than `NOTABLE` bytes it warns of it,
        once.

        Raises:
            FmstatsError: with its histograms those of all layers would take most of the free memory
                of the device.
        """
        bins = measures.bins
        if bins is not None:
            # All of them, since memory is taken as it is written to, which may be later.
            wanted = self._histograms[device] + bins.rows(channels, groups)
            check_room(bins, wanted, device)
            self._histograms[device] = wanted
            count = self._histograms.total()
            size = bins.bytes * count
            if size >= NOTABLE and not self._told:
                self._told = True
                warnings.warn(
                    f"histograms take {format_count(size, 'B')} of memory so far, and more with "
                    f"each further {bins.scope}: {count:,} of {format_count(bins.bytes, 'B')} "
                    f"(resolution={bins.resolution}); {suggest_smaller(bins)}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return State.identity(channels, device, measures, groups)
