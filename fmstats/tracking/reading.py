"""`take_profiles` reads what layers have seen, at once, into the rows of a profile."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack

from fmstats.profiles.profile import LayerProfile
from fmstats.profiles.row_names import name_rows
from fmstats.statistic.state import copy_to_host
from fmstats.tracking.layers import Layer

_LAST = sys.maxsize  # the place of rows that only graphs have measured since restore()


def take_profiles(layers: Iterable[Layer]) -> dict[str, LayerProfile]:
    """Return what layers have seen, by the names of rows, in the order of execution.

    Rows that have seen nothing are left out; each device is read once.
    """
    with ExitStack() as stack:
        rows = [row for layer in layers for row in stack.enter_context(layer.held())]
        states = [row.states for row in rows]
        copies = iter(copy_to_host([state for some in states for state in some]))
    found = [
        (_LAST if row.execution_index is None else row.execution_index, profile)
        for row, some in zip(rows, states, strict=True)
        if (profile := row.profile([next(copies) for _ in some])) is not None
    ]
    found.sort(key=lambda each: each[0])
    names = name_rows(profile.key for _, profile in found)
    return {names[profile.key]: profile for _, profile in found}
