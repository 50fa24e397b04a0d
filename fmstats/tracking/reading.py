"""`take_profiles` reads what layers have seen, at once, into the rows of a profile."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

from fmstats.profiles.profile import LayerProfile
from fmstats.profiles.row_names import name_rows
from fmstats.statistic.host_copies import copy_to_host
from fmstats.tracking.layers import Layer

_LAST = sys.maxsize  # the place of rows that only graphs have measured since restore()


class Taken(NamedTuple):
    """What layers have seen, by the names of rows, in the order of execution.

    Attributes:
        rows: of all positions together.
        groups: of each group, by its number.
    """

    rows: dict[str, LayerProfile]
    groups: dict[int, dict[str, LayerProfile]]


def take_profiles(layers: Iterable[Layer]) -> Taken:
    """Return what layers have seen; each device is read once.

    Rows that have seen nothing are left out.
    """
    with ExitStack() as stack:
        rows = [row for layer in layers for row in stack.enter_context(layer.held())]
        states = [row.states for row in rows]
        copies = iter(copy_to_host([state for some in states for state in some]))
    found = []
    for row, some in zip(rows, states, strict=True):
        profiles = row.profile([next(copies) for _ in some])
        if profiles is not None:
            place = _LAST if row.execution_index is None else row.execution_index
            found.append((place, *profiles))
    found.sort(key=lambda each: each[0])
    names = name_rows(profile.key for _, profile, _ in found)
    by_number: dict[int, dict[str, LayerProfile]] = {}
    for _, profile, groups in found:
        for number, row_of_group in groups.items():
            by_number.setdefault(number, {})[names[profile.key]] = row_of_group
    taken = {names[profile.key]: profile for _, profile, _ in found}
    return Taken(taken, dict(sorted(by_number.items())))
