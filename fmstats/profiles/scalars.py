"""`flatten` makes a profile one flat dict of numbers, as experiment trackers take them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from fmstats.errors import FmstatsError
from fmstats.profiles.profile import Profile

# The numbers of a row of `Profile.layers()`.
STATS = (
    *("channels", "count", "mean", "mean_spread", "std", "sparsity", "dead", "never_active"),
    *("saturated", "nan", "inf", "min", "max"),
)
ROW = ("layer", "type", *STATS)  # all of it
DEFAULT = ("mean", "std", "sparsity", "dead", "saturated", "nan", "inf")


def flatten(
    profile: Profile, stats: str | Iterable[str] = DEFAULT, prefix: str = ""
) -> dict[str, float]:
    """Return the numbers of a profile as a flat dict: see `Profile.scalars`."""
    chosen = (stats,) if isinstance(stats, str) else tuple(stats)
    unknown = [stat for stat in chosen if stat not in STATS]
    if unknown:
        raise FmstatsError(f"unknown statistic {unknown[0]!r}: choose {', '.join(STATS)}")
    return {
        f"{prefix}{row['layer']}.{stat}": float(row[stat])
        for row in profile.layers()
        for stat in chosen
        if row[stat] is not None and math.isfinite(row[stat])
    }
