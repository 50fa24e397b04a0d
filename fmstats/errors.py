"""The one exception that fmstats raises on purpose.

Every message names the state found, what was asked for, and the choices left.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FmstatsError(ValueError):
    """A request that fmstats cannot serve: bad input, a missing backend, a model it cannot read."""


def list_closest(name: str, names: Iterable[str], count: int = 5) -> str:
    """Up to `count` of `names` that resemble `name`, or the first few where none does."""
    choices = sorted(set(names))
    close = difflib.get_close_matches(name, choices, n=count, cutoff=0.4)
    return ", ".join(close or choices[:count]) or "none"
