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

    `samples` is its share of the samples. It is estimated by its share of the elements, in the
    middle one of its layers: exact where samples of one length are each of one group. Where a
    sample is of several groups, they share it, so that `compare` rather expects too much of chance.

    Args:
        metadata: of the whole profile.
        name: of the group.
        rows: of the group.
        whole: the rows of all positions together.
    """
    noted = {**metadata, "group": name}
    samples = read_count(metadata, "samples")
    if samples is not None:
        shares = [
            _count(row) / _count(whole[key])
            for key, row in rows.items()
            if key in whole and _count(whole[key])
        ]
        noted["samples"] = round(samples * median(shares)) if shares else 0
    return noted


def _count(row: LayerProfile) -> int:
    return int(row.stats.count.sum())
