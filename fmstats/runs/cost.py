"""Measure the share of a run's time that its statistics take, from some of its passes.

By the host's clock: on a GPU, the share of the host's time, not of the GPU's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fmstats.tracking.hooks import LayerHook, timed
from fmstats.tracking.sampling import clock

_ONE_IN = 16  # cycles of passes


class Cost:
    """Times the hooks of a tracker in some passes.

    Timed are whole cycles of `every` passes, so that measured ones have the share among them that
    they have in the run: the first two, of which the first is forgotten because it warms up, and
    then one in `_ONE_IN`.

    Args:
        hooks: those to be timed; none where the share is not to be known.
        every: passes in a cycle.
        begun: passes that the cycles are ahead.
    """

    def __init__(self, hooks: Sequence[LayerHook], every: int, begun: int) -> None:
        self._timed, self._every, self._passes = hooks, every, begun % every
        self._last = clock()
        self._warm = False
        self._hooks = self._all = self._now = 0.0

    @property
    def share(self) -> float | None:
        """Return the statistics' share of the time of timed batches, reading included.

        It is None before the first timed batch.
        """
        return self._hooks / self._all if self._all else None

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Time one already loaded batch."""
        cycle = self._passes // self._every
        if not self._timed or not (cycle < 2 or cycle % _ONE_IN == 0):
            yield
            self._passes += 1
            self._last = clock()
            return
        self._now = 0.0
        with timed(self._timed, self._spend):
            yield
        self._passes += 1  # not of a batch that raised: the tracker forgets it, too
        if cycle and not self._warm:
            self._warm, self._hooks, self._all = True, 0.0, 0.0
        last, self._last = self._last, clock()
        self._hooks += self._now
        self._all += self._last - last

    def _spend(self, seconds: float) -> None:
        self._now += seconds
