"""`History` keeps profiles by step, in a folder."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from fmstats.errors import FmstatsError, needs
from fmstats.histories.entries import Interval, list_intervals, remove, remove_held
from fmstats.profiles.profile import Profile, check_profile
from fmstats.storage import load, save

if TYPE_CHECKING:
    import pandas as pd

_KEEP = 256


class Tracked(Protocol):
    """A tracker, of feature maps or of parameters."""

    def stats(self, group: object = None) -> Profile:
        """Return what has been seen."""

    def reset(self) -> None:
        """Forget it."""


class NonFinite(NamedTuple):
    """The first NaN or infinity of a history.

    Attributes:
        interval: the steps of the entry that has it.
        layer: the first one in the order of execution.
        step: the step itself, where `tracker.step` was set; None where it is not known.
    """

    interval: Interval
    layer: str
    step: int | None


class History:
    """A history keeps the profile of each interval of a training run, in a folder of files.

    An entry has what was measured since the entry before. So all entries together are the profile
    of the whole run, and a change is seen where it happens. When there are more entries than
    `keep`, the two neighbours that span the fewest steps are merged: nothing is lost but detail,
    of old and new steps alike. A run that is killed at any point leaves a history that can be read
    and gone on with.

    Args:
        path: the folder; it is made with the first entry.
        keep: the most entries, 2 or more.

    Raises:
        FmstatsError: the path is a file, or `keep` is less than 2.

    Examples:
        >>> import tempfile, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
        >>> history = fmstats.History(tempfile.mkdtemp())
        >>> with fmstats.track(model) as tracker:
        ...     for step in range(1, 31):
        ...         out = model(torch.randn(8, 4) * step)
        ...         if step % 10 == 0:
        ...             added = history.record(step, tracker)
        >>> history.steps, int(history.whole()["1"].count[0])
        ([10, 20, 30], 240)
    """

    def __init__(self, path: str | Path, *, keep: int = _KEEP) -> None:
        self.path = Path(path)
        if type(keep) is not int or keep < 2:
            raise FmstatsError(f"keep={keep!r}: give the most entries of the history, 2 or more")
        if self.path.exists() and not self.path.is_dir():
            raise FmstatsError(
                f"{str(path)!r} is a file: a history is a folder; give another path, or use "
                "fmstats.load() for a profile"
            )
        self._keep = keep

    @property
    def intervals(self) -> list[Interval]:
        """Return the first and the last step of each entry, in order."""
        return list_intervals(self.path)

    @property
    def steps(self) -> list[int]:
        """Return the last step of each entry, in order."""
        return [interval.last for interval in self.intervals]

    def append(self, step: int, profile: Profile) -> None:
        """Add what was measured since the entry before.

        Args:
            step: the step of training that was done last.
            profile: of the steps after the entry before, this one included.

        Raises:
            FmstatsError: the step is not after the last one, the profile is of another model or
                has nothing, or the disk refuses.
        """
        check_profile(profile, "append()")
        if type(step) is not int or step < 0:
            raise FmstatsError(f"step={step!r}: give the number of a step, 0 or more")
        known = self.intervals
        if known and step <= known[-1].last:
            raise FmstatsError(
                f"step {step}: the history in {str(self.path)!r} has reached step "
                f"{known[-1].last}. To go on from an earlier checkpoint, call cut({step - 1}) "
                "first; for another run, give another folder"
            )
        if not profile:
            raise FmstatsError(f"step {step}: the profile has no layer; nothing was measured")
        if known:
            self._read(known[-1]).merge(profile, missing="keep")  # refuses what does not fit
        new = Interval(known[-1].last + 1 if known else min(step, 1), step)
        self.path.mkdir(parents=True, exist_ok=True)
        remove_held(self.path, known)
        save(profile, self.path / new.name)
        while len(known := self.intervals) > self._keep:
            self._merge_shortest(known)

    def record(self, step: int, tracker: Tracked, group: object = None) -> Profile:
        """Add what a tracker has measured since it was recorded last, and reset the tracker.

        Args:
            step: the step of training that was done last.
            tracker: by `track` or `track_parameters`.
            group: of `stats()`: with several ranks each calls this, and the first writes.

        Returns:
            What was added.

        Raises:
            FmstatsError: as `append`; then the tracker is not reset, and nothing is lost.
        """
        profile = tracker.stats(group=group)
        if _writes(group):
            self.append(step, profile)
        tracker.reset()
        return profile

    def cut(self, step: int) -> int:
        """Remove the entries that reach beyond a step, and return how many they were.

        It is for a run that goes on from an earlier checkpoint. An entry that begins before `step`
        and ends after it is removed as well: what it measured cannot be told apart.
        """
        beyond = [interval for interval in self.intervals if interval.last > step]
        remove(self.path, beyond)
        return len(beyond)

    def __len__(self) -> int:
        return len(self.intervals)

    def __iter__(self) -> Iterator[tuple[int, Profile]]:
        """Yield the last step and the profile of each entry, in order."""
        for interval in self.intervals:
            yield interval.last, self._read(interval)

    def __getitem__(self, step: int) -> Profile:
        """Return the entry that a step is in.

        Raises:
            KeyError: there is none.
        """
        for interval in self.intervals:
            if interval.first <= step <= interval.last:
                return self._read(interval)
        raise KeyError(step)

    def whole(self) -> Profile:
        """Return the profile of all entries together.

        Raises:
            FmstatsError: there is none.
        """
        profiles = [profile for _, profile in self]
        if not profiles:
            raise self._nothing()
        return profiles[0].merge(*profiles[1:], missing="keep")

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per entry and layer: its steps, and what `Profile.layers` tells."""
        return [
            {"first_step": interval.first, "step": interval.last, **row}
            for interval in self.intervals
            for row in self._read(interval).layers()
        ]

    def to_pandas(self) -> pd.DataFrame:
        """Return `rows()` as a DataFrame.

        Raises:
            FmstatsError: pandas is not installed.
        """
        with needs("to_pandas()", "pandas", "'fmstats[pandas]'"):
            from pandas import DataFrame
        frame: pd.DataFrame = DataFrame(self.rows())
        return frame

    def first_nonfinite(self) -> NonFinite | None:
        """Return where the first NaN or infinity was; None if all is finite."""
        for interval in self.intervals:
            for name, stats in self._read(interval).items():
                bad = stats.nan + stats.pos_inf + stats.neg_inf > 0
                if bad.any():
                    known = stats.first_step[bad & (stats.first_step >= 0)]
                    return NonFinite(interval, name, int(known.min()) if known.size else None)
        return None

    def __repr__(self) -> str:
        known = self.intervals
        of = f", steps {known[0].first} to {known[-1].last}" if known else ""
        return f"History({str(self.path)!r}: {len(known)} entries{of})"

    def _read(self, interval: Interval) -> Profile:
        return load(self.path / interval.name)

    def _merge_shortest(self, known: Sequence[Interval]) -> None:
        pairs = list(itertools.pairwise(known))
        a, b = min(pairs, key=lambda pair: pair[0].steps + pair[1].steps)
        both = Interval(a.first, b.last)
        merged = self._read(a).merge(self._read(b), missing="keep")
        save(merged, self.path / both.name)  # from here on the two do not count
        remove(self.path, (a, b))

    def _nothing(self) -> FmstatsError:
        return FmstatsError(
            f"{str(self.path)!r} has no entry: it holds no history, or an empty one"
        )


def is_history(path: str | Path) -> bool:
    """Return whether a path is a folder with entries of a history."""
    return bool(list_intervals(Path(path)))


def _writes(group: object) -> bool:
    """Return whether this process writes: the first rank of a group, or any without one."""
    if group is None:
        return True
    import torch.distributed as dist

    among: Any = None if group == "world" else group
    return dist.get_rank(among) == 0
