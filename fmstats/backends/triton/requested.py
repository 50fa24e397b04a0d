"""`Requested` is what launches are given where more is requested than is always measured."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fmstats.backends.triton.plan import Launch
from fmstats.statistic.state import State


class Requested(NamedTuple):
    """Memory that both launches of a tensor have beside.

    Attributes:
        powers: of the parts; None: no sums are requested.
        bins: of the state; None: no histograms are.
        end: how many words the state has with its histograms; 0 of one without memory.
    """

    powers: Tensor | None
    bins: Tensor | None
    end: int

    @classmethod
    def of(cls, state: State, launch: Launch) -> Requested | None:
        """Return what is given for a state; None: nothing more is requested."""
        if not state.measures:
            return None
        powers = None
        if state.measures.sums:
            device = state.words.device
            powers = torch.empty(launch.powers, dtype=torch.float64, device=device)
        return cls(powers, state.bins, 0 if state.memory is None else state.memory.numel() - 1)

    def arguments(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return those behind all others, of `measure` and of `fold`, in their order."""
        powers = {} if self.powers is None else {"powers": self.powers}
        bins = {} if self.bins is None else {"bins": self.bins}
        return {**powers, **bins}, {**powers, "end": self.end}

    def addresses(self) -> tuple[list[int], list[int]]:
        """Return these arguments as a GPU takes them."""
        of_measure, of_fold = (
            [value if isinstance(value, int) else value.data_ptr() for value in given.values()]
            for given in self.arguments()
        )
        return of_measure, of_fold
