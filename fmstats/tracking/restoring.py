"""`match_rows` finds the layers of a tracker that go on from the rows of a saved profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fmstats.errors import FmstatsError
from fmstats.profiles.metadata import name_model, refuse_other_options
from fmstats.profiles.profile import LayerProfile, Profile
from fmstats.profiles.row_names import MOST_CALLS, RowKey
from fmstats.statistic.state import State
from fmstats.statistic.view import resolve_dim
from fmstats.tracking.functional import FunctionalLayers
from fmstats.tracking.group_names import GroupNames
from fmstats.tracking.layer_set import LayerSet
from fmstats.tracking.layer_spec import LayerSpec
from fmstats.tracking.layers import Layer
from fmstats.tracking.per_call import PerCall


def match_rows(
    profile: Profile,
    metadata: Mapping[str, Any],
    layer_set: LayerSet,
    functional: FunctionalLayers,
) -> list[tuple[LayerProfile, Layer]]:
    """Return each row of a profile with the layer, or the call of one, that goes on from it.

    Args:
        profile: to go on from.
        metadata: of the tracker that shall.
        layer_set: its layers.
        functional: gives that tracker the layers that are no modules.

    Raises:
        FmstatsError: the profile is of another model, of other layers, options or thresholds.
    """
    known = profile.metadata
    refuse_other_options("restore a profile into a tracker", known, metadata)
    if known.get("structure", metadata["structure"]) != metadata["structure"]:
        raise FmstatsError(f"cannot restore a profile of another model, {name_model(known)}")
    found = []
    for row in profile.info.values():
        functional.restore(row.layer or "", row.type, row.stats.thresholds)
    for name, row in profile.info.items():
        layer = _find(row, layer_set.layers)
        misfit = "this tracker does not measure it" if layer is None else _misfit(row, layer.spec)
        if layer is None or misfit is not None:
            raise FmstatsError(f"cannot restore layer {name!r}: {misfit}")
        found.append((row, layer))
    return found


def split_by_row(profile: Profile, names: GroupNames) -> dict[RowKey, dict[int, State]]:
    """Return the states of the groups of each row, by their numbers.

    Raises:
        FmstatsError: a group of the profile has another name here.
    """
    found: dict[RowKey, dict[int, State]] = {}
    for name, part in profile.groups.items():
        number = names.number(name)
        for row in part.info.values():
            found.setdefault(row.key, {})[number] = row.stats.state
    return found


def _find(row: LayerProfile, layers: Mapping[str, Layer | PerCall]) -> Layer | None:
    found = (layer for layer in layers.values() if layer.spec.row_name == row.layer)
    layer = next(found, None)
    if isinstance(layer, PerCall):
        number = row.call
        return None if number is None or number >= MOST_CALLS else layer.call(number)
    return layer if row.call is None else None


def _misfit(known: LayerProfile, spec: LayerSpec) -> str | None:
    if known.stats.thresholds != spec.thresholds:
        return f"it was counted with {known.stats.thresholds}, this tracker's are {spec.thresholds}"
    if known.stats.measures != spec.measures:
        return f"it measures {known.stats.measures}, this tracker {spec.measures}"
    asked = spec.channels
    for number, dim in known.dims.items():
        if isinstance(asked, int) and resolve_dim(asked, [1] * number) != dim:
            return f"its channels were dim {dim} of {number} dims, here they are dim {asked}"
    return None
