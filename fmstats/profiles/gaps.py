"""These functions tell which layers were not measured as asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fmstats.output.tables import format_plural, make_printable, name_some
from fmstats.profiles.coverage import describe_not_measured
from fmstats.profiles.layer_profile import LayerProfile
from fmstats.profiles.metadata import read_rows

_NAMED = 5  # layers in one line


def list_gaps(rows: Mapping[str, LayerProfile], metadata: Mapping[str, Any]) -> list[str]:
    """Return texts on layers that were not measured, and on those counted without a mask."""
    missing = describe_not_measured(read_rows(metadata, "coverage"))
    return list(filter(None, [missing, describe_unmasked(name_unmasked(rows))]))


def name_unmasked(rows: Mapping[str, LayerProfile]) -> list[str]:
    """Name the rows with tensors that were counted without the mask.

    Where this holds for some of its tensors alone, the name is followed by how many.
    """
    return [
        name + (f" ({row.unmasked:,} of {row.calls:,} tensors)" * (row.unmasked < row.calls))
        for name, row in rows.items()
        if row.unmasked
    ]


def describe_unmasked(named: Sequence[str]) -> str:
    """Tell of such rows in a line; "" where there are none."""
    if not named:
        return ""
    layers = format_plural(len(named), "layer") + (" was" if len(named) == 1 else " were")
    some = name_some(list(map(make_printable, named)), _NAMED)
    return f"{layers} counted without the mask: {some}"
