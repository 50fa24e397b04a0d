"""Which row of a tracker goes on from which layer of a saved profile, and what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fmstats.calls import MOST_CALLS, PerCall
from fmstats.errors import FmstatsError
from fmstats.layers import Layer, LayerSpec
from fmstats.layout import resolve_dim
from fmstats.metadata import refuse_other_options
from fmstats.profiles import LayerProfile, Profile


def match_rows(
    profile: Profile,
    metadata: Mapping[str, Any],
    layers: Mapping[str, Layer],
    per_call: Mapping[str, PerCall],
) -> dict[str, Layer]:
    """The row for each layer of a profile.

    Args:
        profile: to go on from.
        metadata: of the tracker that shall.
        layers: its rows, unless it has a row per call.
        per_call: its layers, if it has.

    Raises:
        FmstatsError: the profile is of another model, of other layers, options or thresholds.
    """
    known = profile.metadata
    refuse_other_options("restore a profile into a tracker", known, metadata)
    if known.get("structure", metadata["structure"]) != metadata["structure"]:
        raise FmstatsError(f"cannot restore a profile of another model, {known.get('model')}")
    rows = {}
    for name, layer in profile.info.items():
        row = layers.get(name) or _row_of_call(name, per_call)
        misfit = "this tracker does not measure it" if row is None else _misfit(layer, row.spec)
        if row is None or misfit is not None:
            raise FmstatsError(f"cannot restore layer {name!r}: {misfit}")
        rows[name] = row
    return rows


def _row_of_call(name: str, per_call: Mapping[str, PerCall]) -> Layer | None:
    layer, _, number = name.rpartition("#")
    if layer not in per_call or not number.isdecimal() or int(number) >= MOST_CALLS:
        return None
    return per_call[layer].row(int(number))


def _misfit(known: LayerProfile, spec: LayerSpec) -> str | None:
    if known.stats.thresholds != spec.thresholds:
        return f"it was counted with {known.stats.thresholds}, this tracker's are {spec.thresholds}"
    dim = spec.channels
    if isinstance(dim, int) and resolve_dim(dim, known.shape) != known.channel_dim:
        was = f"dim {known.channel_dim} of {known.shape}"
        return f"its channels were {was}, here they are dim {dim}"
    return None
