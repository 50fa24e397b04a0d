"""Read profiles of parameters: which rows belong together, and how large updates are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fmstats.errors import FmstatsError
from fmstats.output.tables import Column, Table, format_number
from fmstats.profiles.layer_profile import LayerProfile
from fmstats.statistic.channel_stats import ChannelStats, pool_channels
from fmstats.statistic.distribution import Array

OF_PARAMETERS = "parameters"  # what the metadata of such a profile say it is of
FROZEN = "frozen "  # what the types of rows of frozen parameters begin with
_GRADIENT, _UPDATE = "/gradient", "/update"  # what rows end in; those of weights end in neither

_COLUMNS = (
    Column("parameter", "parameter", left=True, names=True),
    Column("channels", "channels", keep=1),
    Column("weight_std", "weight std", format_number, keep=3),
    Column("gradient_rms", "gradient rms", format_number, keep=4),
    Column("update_rms", "update rms", format_number, keep=2),
    Column("update_ratio", "update / weight", format_number, keep=5),
    Column("nonfinite", "nan+inf", keep=6, grade=lambda n: "error" if n else None),
)


def split_name(row: str) -> tuple[str, str]:
    """Return the parameter of a row, and what the row's name ends in: "" for weights."""
    for kind in (_GRADIENT, _UPDATE):
        if row.endswith(kind):
            return row.removesuffix(kind), kind
    return row, ""


def tabulate_parameters(rows: Mapping[str, LayerProfile]) -> Table:
    """Return a line for each parameter: see `Profile.parameter_table`."""
    wholes = dict(zip(rows, pool_channels([row.stats for row in rows.values()]), strict=True))
    names = dict.fromkeys(split_name(row)[0] for row in rows)
    return Table(_COLUMNS, [_describe(name, rows, wholes) for name in names])


def _describe(
    name: str, rows: Mapping[str, LayerProfile], wholes: Mapping[str, ChannelStats]
) -> dict[str, Any]:
    kinds = [name + kind for kind in ("", _GRADIENT, _UPDATE) if name + kind in wholes]
    weight, gradient, update = (wholes.get(name + kind) for kind in ("", _GRADIENT, _UPDATE))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float((update.rms / weight.rms)[0]) if weight and update else None
    return {
        "parameter": name,
        "channels": rows[kinds[0]].stats.channels,
        "weight_std": None if weight is None else float(weight.std[0]),
        "gradient_rms": None if gradient is None else float(gradient.rms[0]),
        "update_rms": None if update is None else float(update.rms[0]),
        "update_ratio": ratio,
        "nonfinite": sum(int((wholes[k].count - wholes[k].finite_count)[0]) for k in kinds),
    }


def update_ratios(rows: Mapping[str, LayerProfile], by: str) -> dict[str, Array]:
    """Return rms(update) / rms(weight) of each parameter: see `Profile.update_ratios`."""
    if by not in ("parameter", "channel"):
        raise FmstatsError(f"update_ratios(by={by!r}): choose 'parameter' or 'channel'")
    names = [name.removesuffix(_UPDATE) for name in rows if name.endswith(_UPDATE)]
    names = [name for name in names if name in rows]
    if not names:
        raise FmstatsError(
            "update_ratios() is of a profile by track_parameters(model, optimizer) that has "
            "measured weights and updates; this one has neither of a parameter"
        )
    weights = [rows[name].stats for name in names]
    updates = [rows[name + _UPDATE].stats for name in names]
    if by == "parameter":
        weights, updates = pool_channels(weights), pool_channels(updates)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            name: update.rms / weight.rms
            for name, weight, update in zip(names, weights, updates, strict=True)
        }
