"""`note_group` tells in metadata what a profile of one group of positions is of."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from fmstats.profiles.layer_profile import LayerProfile
from fmstats.profiles.metadata import read_count


def note_group(
    metadata: Mapping[str, Any],
    name: str,
    rows: Mapping[str, LayerProfile],
    whole: Mapping[str, LayerProfile],
) -> dict[str, Any]:
    """Return the metadata of the profile of a group.

    `samples` is its share of them, as estimated by its share of the elements in those layers that
    have the fewest, but one a sample: these are of whole samples, if any are. Where a sample is of
    several groups, they share it, so that `compare` rather expects too much of chance.

    Args:
        metadata: of the whole profile.
        name: of the group.
        rows: of the group.
        whole: the rows of all positions together.
    """
    noted = {**metadata, "group": name}
    samples = read_count(metadata, "samples")
    if samples is not None:
        noted["samples"] = round(samples * _share(rows, whole, samples))
    return noted


def _share(
    rows: Mapping[str, LayerProfile], whole: Mapping[str, LayerProfile], samples: int
) -> float:
    counts = {name: _count(row) for name, row in whole.items() if row.stats.count.any()}
    fewest = min((count for count in counts.values() if count >= samples), default=None)
    shares = [
        (_count(rows[name]) if name in rows else 0) / count
        for name, count in counts.items()
        if fewest is None or count == fewest
    ]
    return median(shares) if shares else 0.0


def _count(row: LayerProfile) -> int:
    """Return how many elements a channel has."""
    return int(row.stats.count.max(initial=0))
