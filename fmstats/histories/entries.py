"""The files of a history: which there are, and which of them count.

An entry is a file `steps-000000001001-000000002000.fmstats`: the profile of these steps. Where two
entries are merged, the merged file is written first and those that it holds are removed after it.
So a run may be killed at any point: an entry within another is one that it holds, and does not
count.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(r"steps-(\d{12,})-(\d{12,})\.fmstats")


class Interval(NamedTuple):
    """Steps of training, `first` and `last` included."""

    first: int
    last: int

    @property
    def name(self) -> str:
        """Return the name of its file."""
        return f"steps-{self.first:012d}-{self.last:012d}.fmstats"

    @property
    def steps(self) -> int:
        """Return how many steps it has."""
        return self.last - self.first + 1

    def holds(self, other: Interval) -> bool:
        """Return whether the other one is within it."""
        return self.first <= other.first and other.last <= self.last

    def __str__(self) -> str:
        return f"steps {self.first} to {self.last}"


def list_intervals(folder: Path) -> list[Interval]:
    """Return the intervals that count, in order; those of killed merges do not."""
    found = [
        Interval(int(match[1]), int(match[2]))
        for match in map(_NAME.fullmatch, _names(folder))
        if match is not None
    ]
    found.sort(key=lambda each: (each.first, -each.last))
    kept: list[Interval] = []
    for interval in found:
        if not (kept and kept[-1].holds(interval)):
            kept.append(interval)
    return kept


def remove(folder: Path, intervals: Iterable[Interval]) -> None:
    """Remove the files of intervals, where they are there."""
    for interval in intervals:
        with contextlib.suppress(FileNotFoundError):
            (folder / interval.name).unlink()


def remove_held(folder: Path, kept: Iterable[Interval]) -> None:
    """Remove the files of all intervals but these: a merge was killed before it did."""
    names = {interval.name for interval in kept}
    for name in _names(folder):
        if _NAME.fullmatch(name) and name not in names:
            with contextlib.suppress(FileNotFoundError):
                (folder / name).unlink()


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
