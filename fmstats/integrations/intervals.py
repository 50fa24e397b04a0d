"""Profile a model in each interval of a training run, for callbacks of several frameworks.

Every batch between `begin()` and `end()` is in one interval and in no other. Nothing waits for a
device before an interval ends.

The rule of all callbacks says where an interval ends, and is logged: at each optimizer step that is
a multiple of its length (`Intervals.reaches`), and at the last step of training
(`Intervals.finish`). So each of these steps is logged once, and no other step.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.nn as nn

import fmstats
from fmstats.tracking.nonfinite import action_of, check_action


class Intervals:
    """Tracks a model, and cuts its statistics into intervals.

    Args:
        model: what is tracked, until `close()`.
        every: measure the first of every `every` batches of the run.
        step: optimizer steps done before.
        stop_on_nonfinite: have `broken` known as soon as possible, and not only as intervals end.
        history: a folder that the first rank adds each interval to: see `fmstats.History`. What it
            has of later steps is of a run that this one takes up again, and is removed.
        **options: of `fmstats.track`.

    Attributes:
        last: the profile of the last interval; None before one has ended.
        profile: that of all intervals together.
        broken: what is known of the first NaN or infinity, as text; None as long as all is finite.
            Of several ranks it is known when an interval ends, to all of them.

    Raises:
        FmstatsError: as `fmstats.track`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        every: int = 1,
        step: int = 0,
        stop_on_nonfinite: bool = False,
        history: str | Path | None = None,
        **options: Any,
    ) -> None:
        main = not _has_ranks() or dist.get_rank() == 0
        self._history = fmstats.History(history) if history is not None and main else None
        if self._history is not None:
            self._history.cut(step)
        self.last: fmstats.Profile | None = None
        self.profile: fmstats.Profile | None = None
        self._every, self._batches = every, 0
        self._first = self._began = self._reached = step
        self._unread = False  # a batch has begun that is in no profile yet
        self._pending: fmstats.Profile | None = None  # read already, of this interval
        self.broken: str | None = None
        asked = options.get("on_nonfinite", "ignore")
        if stop_on_nonfinite or asked != "ignore":
            check_action(asked)
            self._act, self._told = action_of(asked), set[str]()
            options = {**options, "on_nonfinite": self._note_event}
        self._tracker: fmstats.Tracker | None = fmstats.track(model, **options)
        self._tracker.pause()

    def begin(self, step: int | None = None) -> None:
        """Measure from here on: a batch of the run begins.

        Args:
            step: optimizer steps, this one included; None: the one after those that were reached.
        """
        if self._tracker is not None:
            self._tracker.step = self._reached + 1 if step is None else step
            self._unread = True
            if self._batches % self._every == 0:
                self._tracker.resume()

    def end(self) -> None:
        """Stop measuring until the next batch begins."""
        if self._tracker is not None:
            self._tracker.pause()
            self._batches += 1

    @property
    def is_open(self) -> bool:
        """Return whether it still tracks."""
        return self._tracker is not None

    @property
    def is_empty(self) -> bool:
        """Return whether no batch has begun since the interval did."""
        return not self._unread and self._pending is None

    def reaches(self, step: int, length: int) -> bool:
        """Note that `step` optimizer steps are done, and return whether an interval ends here.

        It ends once at each multiple of `length`. Of a batch that makes several steps, the last
        step counts. A length of 0 means that no interval ends before training does.
        """
        before, self._reached = self._reached, step
        return length > 0 and step // length > before // length

    def flush(self, step: int, *, ranks: bool = True) -> fmstats.Profile:
        """End an interval at a step: read the device once, and begin the next interval.

        Args:
            step: optimizer steps done.
            ranks: take all ranks of torch.distributed together, if there are several: each of them
                calls this. Otherwise this process alone.
        """
        seen = self._collect(ranks)
        self.last = _note(seen, every=self._every, steps=[self._began + 1, step])
        self._add(self.last, step)
        self._began = step
        if self._history is not None and self.last:
            self._history.append(step, self.last)
        self.broken = self.broken or _describe_broken(self.last)
        return self.last

    def finish(self, step: int, *, ranks: bool = True) -> fmstats.Profile | None:
        """End the last interval with training, and return it; None if no step was done in it.

        Batches after the last step are in `profile`, but in no interval: their step is logged.
        """
        if step > self._began:
            return self.flush(step, ranks=ranks)
        if not self.is_empty:
            self._add(_note(self._collect(ranks), every=self._every), step)
        return None

    def close(self) -> None:
        """Remove all hooks; what was not flushed is lost. May be called twice."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            tracker.close()

    def state(self) -> dict[str, Any]:
        """Return all statistics so far, for a checkpoint; the interval continues.

        Ranks are merged as in `flush`.
        """
        if self._tracker is not None and not self.is_empty:
            self._collect(ranks=True)
        return {
            "batches": self._batches,
            "steps": [self._first, self._began],
            "reached": self._reached,
            "profile": None if self.profile is None else self.profile.to_bytes(),
            "pending": None if self._pending is None else self._pending.to_bytes(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint, and complete the interval in which it was made."""
        self._batches = state["batches"]
        self._first, self._began = state["steps"]
        self._reached = state.get("reached", self._reached)  # not in checkpoints of 0.1
        self.profile = _unpack(state["profile"])
        self._pending = _unpack(state["pending"])

    def _note_event(self, event: fmstats.NonFiniteEvent) -> None:
        if not _has_ranks():  # of several all must stop together
            self.broken = self.broken or str(event)
        if event.layer not in self._told:  # in an interval before
            self._told.add(event.layer)
            self._act(event)

    def _collect(self, ranks: bool) -> fmstats.Profile:
        """Read the tracker, and give the interval up to now."""
        if self._tracker is None:
            raise fmstats.FmstatsError("these intervals are closed: nothing is tracked any more")
        together = ranks and _has_ranks()
        part = self._tracker.stats(group="world" if together else None)
        self._tracker.reset()
        self._unread = False
        self._pending = _join(self._pending, part)
        return self._pending

    def _add(self, seen: fmstats.Profile, step: int) -> None:
        """Add what was collected to `profile`."""
        self.profile = _note(_join(self.profile, seen), steps=[self._first + 1, step])
        self._pending = None


class KeepsIntervals:
    """Keeps the intervals of a training run and writes their file, for all callbacks.

    Attributes:
        stop_on_nonfinite: end training where a layer has a NaN or an infinity.
    """

    _train: Intervals | None = None
    _save: Path | None = None
    stop_on_nonfinite = False
    _has_warned = False

    @property
    def last(self) -> fmstats.Profile | None:
        """Return the profile of the last interval; None before the first one ends."""
        return None if self._train is None else self._train.last

    @property
    def profile(self) -> fmstats.Profile | None:
        """Return the profile of all intervals so far; None before the first one ends."""
        return None if self._train is None else self._train.profile

    @staticmethod
    def _close_all(several: Iterable[Intervals | None]) -> None:
        """Close each, also where another one raises what a GPU tells at last."""
        with ExitStack() as stack:
            for intervals in several:
                if intervals is not None:
                    stack.callback(intervals.close)

    def _must_stop(self) -> bool:
        """Return whether training is to end, and say why."""
        broken = None if self._train is None else self._train.broken
        if broken is None or not self.stop_on_nonfinite:
            return False
        if not self._has_warned:
            warnings.warn(f"fmstats ends the training: {broken}", RuntimeWarning, stacklevel=2)
            self._has_warned = True
        return True

    def _make_folder(self) -> None:
        """Make room for the file now: a training run must not end without it."""
        if self._save is not None:
            self._save.parent.mkdir(parents=True, exist_ok=True)

    def _write(self, main: bool) -> None:
        """Write the file, if this is the main process and there is something to write."""
        if self._save is not None and self.profile is not None and main:
            self.profile.save(self._save)


def _has_ranks() -> bool:
    return dist.is_available() and dist.is_initialized()


def _describe_broken(profile: fmstats.Profile) -> str | None:
    """Tell which layer was first not finite, as every rank that has the profile does."""
    times = {}
    for name, row in profile.info.items():  # in the order of execution
        steps = row.stats.first_step
        if (steps >= 0).any():
            times[name] = int(steps[steps >= 0].min())
    if not times:
        return None
    name = min(times, key=times.__getitem__)
    kind = profile.info[name].type
    return f"layer {name!r} ({kind}) has elements that are not finite since step {times[name]:,}"


def _unpack(content: bytes | None) -> fmstats.Profile | None:
    return None if content is None else fmstats.Profile.from_bytes(content)


def _join(a: fmstats.Profile | None, b: fmstats.Profile) -> fmstats.Profile:
    return b if a is None else a.merge(b, missing="keep")


def _note(profile: fmstats.Profile, **notes: object) -> fmstats.Profile:
    """Return the profile with these notes; keys noted here no longer count as differing."""
    metadata = {**profile.metadata, **notes}
    differs = metadata.pop("differs", None)  # a profile of a checkpoint may hold anything
    differs = [key for key in differs if key not in notes] if isinstance(differs, list) else []
    return profile.with_metadata(metadata | ({"differs": differs} if differs else {}))
