"""`StateMemory` makes the states of a tracker, and says what their histograms take."""

from __future__ import annotations

import warnings

import torch

from fmstats.statistic.bins import show_bytes
from fmstats.statistic.measures import Measures
from fmstats.statistic.room import NOTABLE, check_room, suggest_smaller
from fmstats.statistic.state import State


class StateMemory:
    """A state memory counts the histograms of all layers of a tracker, as rows come.

    How wide a layer is nobody knows before its first tensor.
    """

    def __init__(self) -> None:
        self._histograms = 0
        self._told = False

    def make(
        self, channels: int, device: torch.device, measures: Measures, groups: int = 1
    ) -> State:
        """Make an empty state, as `State.identity` does.

        Before histograms of all layers together take more than `NOTABLE` bytes it warns of it,
        once.

        Raises:
            FmstatsError: its histograms would take most of the free memory of the device.
        """
        bins = measures.bins
        if bins is not None:
            histograms = bins.rows(channels, groups)
            check_room(bins, histograms, device)
            self._histograms += histograms
            size = bins.bytes * self._histograms
            if size >= NOTABLE and not self._told:
                self._told = True
                warnings.warn(
                    f"histograms take {show_bytes(size)} of memory so far, and more with each "
                    f"further {bins.scope}: {self._histograms:,} of {show_bytes(bins.bytes)} "
                    f"(resolution={bins.resolution}); {suggest_smaller(bins)}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return State.identity(channels, device, measures, groups)
