"""`flatten` makes a profile one flat dict of numbers, as experiment trackers take them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from fmstats.errors import FmstatsError
from fmstats.profiles.measured import ALL_MEASURED, MEASURED
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
    unknown = [stat for stat in chosen if stat not in (*STATS, *ALL_MEASURED)]
    if unknown:
        choices = ", ".join((*STATS, *ALL_MEASURED))
        raise FmstatsError(f"unknown statistic {unknown[0]!r}: choose {choices}")
    rows = profile.layers()
    for measure, names in MEASURED.items():
        asked = [name for name in names if name in chosen]
        if asked and rows and asked[0] not in rows[0]:
            raise FmstatsError(f"{asked[0]} is not known: it needs track(..., measure={measure!r})")
    return {
        f"{prefix}{row['layer']}.{stat}": float(row[stat])
        for row in rows
        for stat in chosen
        if has_number(row, stat) and math.isfinite(row[stat])
    }


def has_number(row: Mapping[str, Any], stat: str) -> bool:
    """Tell whether a row of `Profile.layers()` has a number that means something.

    Of a layer that saw no finite element only counts do: a sparsity of 0 would look healthy.
    """
    value = row[stat]
    if value is None or math.isnan(value):
        return False
    return stat in _COUNTS or row["count"] > row["nan"] + row["inf"]
