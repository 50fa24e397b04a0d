"""`update_ratios` tells by how much steps of an optimizer change parameters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fmstats.errors import FmstatsError
from fmstats.profiles.layer_profile import LayerProfile
from fmstats.statistic.channel_stats import pool_channels
from fmstats.statistic.distribution import Array

_UPDATE = "/update"  # what the rows of updates end in


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
