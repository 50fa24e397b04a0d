"""A sampling takes forward passes: one in so many, or as many as a budget pays for.

A pass begins and ends at the tracked model. What is decided at its beginning holds for all layers
until the next begins; a part of the model that is called on its own goes by the last decision.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

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

    def every_now(self) -> int:
        """Return how many passes there are now to one that is taken."""

    def spend(self, seconds: float) -> None:
        """Note that a hook took so long."""

    def end(self, seconds: float) -> None:
        """Note that the pass has ended, which took so long, hooks included."""

    def describe(self) -> dict[str, object]:
        """Return what belongs in the metadata of a profile."""

    def reset(self) -> None:
        """Begin anew."""


def check_share(budget: object) -> None:
    """Refuse a `budget` that is no share of the forward time.

    Raises:
        FmstatsError: it is no number, or not above 0 and below 1.
    """
    if not isinstance(budget, (int, float)) or not 0 < budget < 1:
        raise FmstatsError(f"budget={budget!r}: give a share of the forward time, as 0.01")


class Every:
    """This sampling takes the first of every `k` passes."""

    timed = False

    def __init__(self, k: int) -> None:
        self._k, self._passes = k, 0

    def every_now(self) -> int:
        """Return how many passes there are to one that is taken."""
        return self._k

    def take(self) -> bool:
        """Tell whether to measure the pass that begins."""
        taken = self._passes % self._k == 0
        self._passes += 1
        return taken

    def spend(self, seconds: float) -> None:
        """Note that a hook took so long."""

    def end(self, seconds: float) -> None:
        """Note that the pass has ended, which took so long, hooks included."""

    def describe(self) -> dict[str, object]:
        """Return what belongs in the metadata of a profile."""
        return {"every": self._k}

    def reset(self) -> None:
        """Begin anew."""
        self._passes = 0


class Budget:
    """This sampling takes as many passes as a share of the forward time pays for.

    The clock is the host's: on a GPU it sees what hooks cost the host, not their kernels. What a
    measured pass costs is known only after it: the first is always taken, and paid for by those
    that follow; then one is taken as soon as all forward time so far pays for what was spent and
    for one more like the last. Passes of several threads are added up.

    Args:
        share: of the forward time without hooks, above 0 and below 1.
    """

    timed = True

    def __init__(self, share: float) -> None:
        self._share = share
        self._lock = threading.Lock()
        self._thread = _Pass()
        self.passes = self.measured = 0
        self.spent = self.forward = self._last = 0.0

    def take(self) -> bool:
        """Tell whether to measure the pass that begins."""
        with self._lock:
            cost = self._last if self.measured else 0.0
            taken = self.spent + cost <= self._share * self.forward
            self.passes += 1
            self.measured += taken
        self._thread.taken, self._thread.spent = taken, 0.0
        return taken

    def every_now(self) -> int:
        """Return how many passes there were so far to one that was taken."""
        return max(1, round(self.passes / max(self.measured, 1)))

    def spend(self, seconds: float) -> None:
        """Note that a hook took so long."""
        self._thread.spent += seconds

    def end(self, seconds: float) -> None:
        """Note that the pass has ended, which took so long, hooks included."""
        now = self._thread.spent  # since `take`
        with self._lock:
            self.spent += now
            self.forward += max(seconds - now, 0.0)
            if self._thread.taken:
                self._last = now

    def describe(self) -> dict[str, object]:
        """Return what belongs in the metadata of a profile."""
        return {
            "budget": self._share,
            "budget_spent": self.spent / self.forward if self.forward else 0.0,
            "every": self.passes / self.measured if self.measured else 1.0,
        }

    def reset(self) -> None:
        """Begin anew."""
        with self._lock:
            self.passes = self.measured = 0
            self.spent = self.forward = 0.0


class _Pass(threading.local):
    """This class notes of the pass of a thread whether it is taken, and what hooks have spent."""

    taken = True
    spent = 0.0


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
