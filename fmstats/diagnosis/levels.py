"""Find the layers at which the scale of activations changes along depth.

Each layer is compared with those most like it: those of its type in its place of repeated blocks,
else those of its type; and with all layers. What is unusual is judged by the spread of the group,
so that layers that may differ, such as queries and outputs of attention, are no news.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fmstats.diagnosis.changes import Change, merge_changes
from fmstats.diagnosis.kinds import Levels, keeps_its_scale, normalises
from fmstats.diagnosis.observed import Mask, Observed
from fmstats.diagnosis.robust import estimate_deviation
from fmstats.diagnosis.scale_by_type import find_alone
from fmstats.diagnosis.thresholds import RuleThresholds

# So many layers of a group, and steps between them, are taken for right, and define what is usual.
_RIGHT = 0.75
_NUMBER = re.compile(r"\d+")
# Among layers that are alike, a change by `growth` to this power is news whatever the spread.
_CERTAIN = 3


@dataclass(frozen=True)
class Group:
    """Holds layers that are compared with each other, in the order of execution.

    Attributes:
        alike: whether they are of one type.
    """

    layers: list[Observed]
    alike: bool


def find_changes(
    layers: Sequence[Observed], levels: Levels, thresholds: RuleThresholds, sign: int
) -> list[Change]:
    """Return the changes in one direction, each once, in the order of execution.

    Args:
        layers: in the order of execution.
        levels: of each, the log of its scale; NaN where it has none.
        thresholds: `growth`, `unusual` and `depth`.
        sign: 1 for growth, -1 for shrinking.
    """
    scaled = [layer for layer in layers if not np.isnan(levels[layer.index])]
    if not scaled:
        return []
    groups = list(_groups(scaled, int(thresholds["depth"]), sign))
    gains = sign * _unusual_gains(scaled, levels, groups)
    rises = _own_rises(sign * levels, groups)
    like = {layer.index for group in groups if group.alike for layer in group.layers}
    unlike = [layer for layer in scaled if layer.index not in like]
    found = list(find_alone(scaled, levels, unlike, thresholds, sign))
    for group in groups:
        members = group.layers
        own = sign * levels[[layer.index for layer in members]]
        alone = np.array([layer.index not in like for layer in members])
        for first, last in _find_rises(group, own, alone, thresholds, sign):
            at, steps = members[last], max(last - first, 1)
            if steps == 1:
                # What lies between two layers of the group may have done it.
                since = members[last - 1].index if last else -1
                between = [layer for layer in scaled if since < layer.index <= at.index]
                size = own[last] - (own[first] if first >= 0 else 0.0)
                did = [
                    layer
                    for layer in between
                    if rises[layer.index] >= size / 2
                    or (
                        gains[layer.index] >= size / 2
                        and rises[layer.index] >= 0
                        and not keeps_its_scale(layer)
                    )
                ]
                at = did[0] if did else max(between, key=lambda layer: gains[layer.index])
            old = members[first] if first >= 0 else None
            found.append(Change(at, members[last], old, steps))
    return merge_changes(found)


def _groups(scaled: Sequence[Observed], least: int, sign: int) -> Iterator[Group]:
    """Yield groups to compare: for each layer its `least` most similar ones, and all layers."""
    rest = list(scaled)
    for key in (_place, _type):
        groups: dict[object, list[Observed]] = defaultdict(list)
        for layer in rest:
            groups[key(layer)].append(layer)
        large = {name: group for name, group in groups.items() if len(group) >= least}
        yield from (Group(group, alike=True) for group in large.values())
        rest = [layer for layer in rest if key(layer) not in large]
    yield from (Group([layer], alike=True) for layer in rest if normalises(layer))
    # What is bounded is small behind large numbers, and sound.
    free = [layer for layer in scaled if sign > 0 or not keeps_its_scale(layer)]
    if len(free) >= least:
        yield Group(free, alike=False)


def _place(layer: Observed) -> object:
    return layer.type, _NUMBER.sub("*", layer.name)


def _type(layer: Observed) -> object:
    return layer.type


def _find_rises(
    group: Group, levels: Levels, alone: Mask, thresholds: RuleThresholds, sign: int
) -> Iterator[tuple[int, int]]:
    """Yield the rises of one group: the member before the rise, and its last member.

    A member has risen if it is above all that came up to some steps before it, by `growth` and by
    `unusual` deviations of so many steps. What was reported before, or fell back, is left out. A
    rise from -1 is one from 1, one from 1 to 0 is that of a first member alone.
    """
    limit = _Limit.of(group, levels, thresholds, sign)
    start = 0
    if group.alike and normalises(group.layers[0]):
        rises = _scan(np.concatenate([[0.0], levels]), np.zeros(len(levels) + 1, bool), limit)
        yield from ((first - 1, last - 1) for first, last in rises)
        return
    if group.layers[0].of == "output":
        if _is_odd(levels, limit):
            yield 1, 0
        start = int(_is_odd(levels, limit) or _is_odd(-levels, limit))
    yield from (
        (first + start, last + start) for first, last in _scan(levels[start:], alone[start:], limit)
    )


@dataclass(frozen=True)
class _Limit:
    """Gives the threshold for a rise of so many steps, as a logarithm."""

    least: float
    deviation: float
    most: float
    absolute: bool

    @classmethod
    def of(cls, group: Group, levels: Levels, thresholds: RuleThresholds, sign: int) -> _Limit:
        growth = math.log(thresholds["growth"])
        deviation = thresholds["unusual"] * _spread(levels, group.alike)
        absolute = sign > 0 and not group.alike and group.layers[0].of == "output"
        return cls(growth, deviation, _CERTAIN * growth if group.alike else math.inf, absolute)

    def over(self, steps: int) -> float:
        return min(max(self.least, self.deviation * math.sqrt(steps)), self.most)

    def passed(self, level: float, before: float, steps: int, alone: bool) -> bool:
        """Return whether a level is too far above those before it.

        What is usual cannot be said of a layer that no other is like: it is too far if it is
        above 1 as well.
        """
        rise = level - before
        far = alone and self.absolute and min(rise, level) > self.least
        return rise > self.over(steps) or far


def _scan(levels: Levels, alone: Mask, limit: _Limit) -> Iterator[tuple[int, int]]:
    known, j = 0, 1
    while j < len(levels):
        first = _rise_to(levels, j, known, limit, bool(alone[j]))
        if first is None:
            j += 1
            continue
        last = _extend(levels, first, j)
        yield first, last
        known, j = last, last + 1


def _rise_to(levels: Levels, j: int, known: int, limit: _Limit, alone: bool) -> int | None:
    """Return the last member before the rise to `j` that takes the fewest steps."""
    for first in range(j - 1, known - 1, -1):
        if limit.passed(float(levels[j]), float(levels[: first + 1].max()), j - first, alone):
            return first
    return None


def _extend(levels: Levels, first: int, last: int) -> int:
    """Return the last member of a rise that continues at half its pace or more."""
    while last + 1 < len(levels):
        pace = (levels[last] - levels[first]) / (last - first)
        if levels[last + 1] - levels[last] < pace / 2:
            break
        last += 1
    return last


def _is_odd(levels: Levels, limit: _Limit) -> bool:
    """Return whether the first member is too high, rather than the later ones too low.

    Both look the same from inside the group; activations are made to be of the order of 1.
    """
    if len(levels) < 2:
        return False
    first, rest = levels[0], float(np.median(levels[1:]))
    return bool(first - levels[1:].max() > limit.over(1) and first > abs(rest))


def _spread(levels: Levels, alike: bool) -> float:
    """Estimate robustly the standard deviation of the levels or of their steps.

    Of layers that are alike the smaller one: one change for good leaves the steps as they are, one
    layer that is off leaves the levels. Of all layers the larger one: types may differ.
    """
    if len(levels) < 2:
        return 0.0
    choose = min if alike else max
    return choose(estimate_deviation(levels, _RIGHT), estimate_deviation(np.diff(levels), _RIGHT))


def _unusual_gains(scaled: Sequence[Observed], levels: Levels, groups: Sequence[Group]) -> Levels:
    """Return how much each layer gains over the layer before it, beyond what similar layers do."""
    gains = np.zeros(len(levels))
    for before, layer in pairwise(scaled):
        gains[layer.index] = levels[layer.index] - levels[before.index]
    for group in groups:
        if group.alike:
            members = [layer.index for layer in group.layers if layer is not scaled[0]]
            gains[members] -= np.median(gains[members]) if len(members) > 2 else 0.0
    return gains


def _own_rises(levels: Levels, groups: Sequence[Group]) -> Levels:
    """Return how far each layer is above all earlier similar ones; 0 where there are none."""
    rises = np.zeros(len(levels))
    for group in groups:
        if group.alike:
            members = [layer.index for layer in group.layers]
            highest = np.maximum.accumulate(levels[members])
            rises[members[1:]] = levels[members[1:]] - highest[:-1]
    return rises
