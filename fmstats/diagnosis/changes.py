"""Describe a change of scale along depth, and report each change once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fmstats.diagnosis.observed import Observed


@dataclass(frozen=True)
class Change:
    """Describes a scale that grew or shrank.

    Attributes:
        at: the layer that it is reported for: the one that did it, or the last of several.
        new: the layer of a group of similar ones that shows it.
        old: the layer of that group that it is compared with, before it or right behind it; None
            where it is compared with 1.
        steps: layers of the group that it took.
    """

    at: Observed
    new: Observed
    old: Observed | None
    steps: int

    @property
    def width(self) -> int:
        """Return how many layers run from the old one to the new one."""
        return abs(self.new.index - (-1 if self.old is None else self.old.index))

    def covers(self, layer: Observed) -> bool:
        """Return whether the change may have happened in `layer`."""
        old = -1 if self.old is None else self.old.index
        first, last = sorted((old, self.new.index))
        return first < layer.index <= last


def merge_changes(found: Sequence[Change]) -> list[Change]:
    """Keep each change once, as shown by the group that needs the fewest steps and layers."""
    kept: list[Change] = []
    for change in sorted(found, key=lambda change: (change.steps, change.width)):
        if not any(c.covers(d.at) for other in kept for c, d in ((change, other), (other, change))):
            kept.append(change)
    return sorted(kept, key=lambda change: change.at.index)
