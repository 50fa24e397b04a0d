"""`flatten` makes a profile one flat dict of numbers, as experiment trackers take them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from fmstats.errors import FmstatsError
from fmstats.profiles.measured import MEASURED
from fmstats.profiles.profile import Profile

# The numbers of a row of `Profile.layers()`.
STATS = (
    *("channels", "count", "mean", "mean_spread", "std", "sparsity", "dead", "never_active"),
    *("saturated", "nan", "inf", "min", "max"),
)
ROW = ("layer", "type", *STATS)  # all of it
_COUNTS = frozenset(("channels", "count", "nan", "inf"))
DEFAULT = ("mean", "std", "sparsity", "dead", "saturated", "nan", "inf")


def flatten(
    profile: Profile, stats: str | Iterable[str] = DEFAULT, prefix: str = ""
) -> dict[str, float]:
    """Return the numbers of a profile as a flat dict: see `Profile.scalars`."""
    chosen = (stats,) if isinstance(stats, str) else tuple(stats)
    unknown = [stat for stat in chosen if stat not in (*STATS, *MEASURED)]
    if unknown:
        choices = ", ".join((*STATS, *MEASURED))
        raise FmstatsError(f"unknown statistic {unknown[0]!r}: choose {choices}")
    rows = profile.layers()
    if rows:
        require_measures(chosen, {m for name, m in MEASURED.items() if name in rows[0]})
    return {
        f"{prefix}{row['layer']}.{stat}": float(row[stat])
        for row in rows
        for stat in chosen
        if has_number(row, stat) and math.isfinite(row[stat])
    }


def require_measures(stats: Iterable[str], measures: Collection[str]) -> None:
    """Refuse statistics that need a measure which is none of these.

    Raises:
        FmstatsError: there is one.
    """
    for stat in stats:
        measure = MEASURED.get(stat)
        if measure is not None and measure not in measures:
            raise FmstatsError(f"{stat} is not known: it needs track(..., measure={measure!r})")


def has_number(row: Mapping[str, Any], stat: str) -> bool:
    """Tell whether a row of `Profile.layers()` has a number that means something.

    Of a layer that saw no finite element only counts do: a sparsity of 0 would look healthy.
    """
    value = row[stat]
    if value is None or math.isnan(value):
        return False
    return stat in _COUNTS or row["count"] > row["nan"] + row["inf"]
