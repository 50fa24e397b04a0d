"""A sampling takes forward passes: one in so many, or as many as a budget pays for.

A pass begins and ends at the tracked model. What is decided at its beginning holds for all layers
until the next begins; a part of the model that is called on its own goes by the last decision.
Budgets are in `budget.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from fmstats.errors import FmstatsError
from fmstats.tracking.gates import StandIn, Updatable

clock = time.perf_counter


class Sampling(Protocol):
    """A sampling tells which passes are taken.

    Attributes:
        timed: whether hooks tell it how long they take.
    """

    timed: bool

    def take(self) -> bool:
        """Tell whether to measure the pass that begins."""

    def spend(self, seconds: float) -> None:
        """Note that a hook took so long."""

    def end(self, seconds: float) -> None:
        """Note that the pass has ended, which took so long, hooks included."""

    def every_now(self) -> int:
        """Return in how many passes one is taken by now, for what cannot ask in each pass."""

    def describe(self) -> dict[str, object]:
        """Return what belongs in the metadata of a profile."""

    def reset(self) -> None:
        """Begin anew."""

    def remember(self) -> object:
        """Return what `go_back` takes."""

    def go_back(self, remembered: Any) -> None:
        """Be as it was when that was returned; may be called again."""


def check_share(budget: object) -> None:
    """Refuse a `budget` that is no share of the forward time.

    Raises:
        FmstatsError: it is no number, or not above 0 and below 1.
    """
    if not isinstance(budget, (int, float)) or not 0 < budget < 1:
        raise FmstatsError(f"budget={budget!r}: give a share of the forward time, as 0.01")


class Every:
    """This sampling takes the first of every `k` passes.

    Attributes:
        k: that.
        asked: for how many passes it was asked so far, a word for native code.
    """

    timed = False

    def __init__(self, k: int) -> None:
        self.k, self.asked = k, np.zeros(1, np.int64)

    def take(self) -> bool:
        """Tell whether to measure the pass that begins."""
        asked = int(self.asked[0])
        self.asked[0] = asked + 1
        return asked % self.k == 0

    def spend(self, seconds: float) -> None:
        """Note that a hook took so long."""

    def end(self, seconds: float) -> None:
        """Note that the pass has ended, which took so long, hooks included."""

    def every_now(self) -> int:
        """Return in how many passes one is taken."""
        return self.k

    def describe(self) -> dict[str, object]:
        """Return what belongs in the metadata of a profile."""
        return {"every": self.k}

    def reset(self) -> None:
        """Begin anew."""
        self.asked[0] = 0

    def remember(self) -> object:
        """Return what `go_back` takes."""
        return int(self.asked[0])

    def go_back(self, remembered: Any) -> None:
        """Be as it was when that was returned."""
        self.asked[0] = remembered


class Timed(StandIn):
    """This layer stands for another and tells how many seconds its updates take.

    Args:
        layer: what is updated.
        spend: is told, also where an update fails.
    """

    why_in_python = "to be timed for the budget"

    def __init__(self, layer: Updatable, spend: Callable[[float], None]) -> None:
        super().__init__(layer)
        self._spend = spend

    def update(self, output: object) -> None:
        """Update the layer, and say how long it took."""
        began = clock()
        try:
            self.layer.update(output)
        finally:
            self._spend(clock() - began)

    def claim(self) -> Updatable:
        """Return what an output of this call is for, timed."""
        return Timed(self.layer.claim(), self._spend)
