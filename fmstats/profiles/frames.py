"""These functions list the rows of a profile, and their channels, as plain numbers and texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fmstats.output.files import encode_text
from fmstats.profiles.layer_profile import LayerProfile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.fields import FIELDS

Rows = Mapping[str, LayerProfile]


def list_columns(rows: Rows, groups: Mapping[str, Rows]) -> dict[str, list[Any]]:
    """Return the columns of a table with a row for each channel of each row of a profile.

    Args:
        rows: of all positions together.
        groups: the rows of each group, if there are any: then there is a column `group` as well,
            None in the rows of all positions.
    """
    columns: dict[str, list[Any]] = {"layer": [], "type": [], "channel": []}
    known = [layer.stats.columns for part in (rows, *groups.values()) for layer in part.values()]
    always = (*FIELDS, *ChannelStats.DERIVED)
    fields = dict.fromkeys((*always, *(field for some in known for field in some)))
    columns |= {field: [] for field in fields}
    if groups:
        columns["group"] = []
    every: list[tuple[str | None, Rows]] = [(None, rows), *groups.items()]
    for group, part in every:
        for name, layer in part.items():
            channels, values = layer.stats.channels, layer.stats.list_columns()
            columns["layer"] += [encode_text(name).decode()] * channels
            columns["type"] += [encode_text(layer.type).decode()] * channels
            columns["channel"] += range(channels)
            for field in fields:
                found = values.get(field)
                columns[field] += [None] * channels if found is None else found
            if groups:
                columns["group"] += [group] * channels
    return columns


def list_rows(rows: Rows) -> dict[str, dict[str, Any]]:
    """Return all that is known of each row, by its name."""
    found = {}
    for name, layer in rows.items():
        known = {field: value for field, value in vars(layer).items() if field != "stats"}
        known |= {"shape": list(layer.shape), "other_dims": list(map(list, layer.other_dims))}
        found[name] = {**known, **layer.stats.to_dict()}
    return found
