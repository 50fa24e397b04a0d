"""`pool_layers` takes layers together by their names: a profile of blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fmstats.errors import FmstatsError
from fmstats.profiles.merging import unite_lists
from fmstats.profiles.profile import LayerProfile, Profile
from fmstats.profiles.updates import FROZEN, OF_PARAMETERS, split_name
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds


def pool_layers(profile: Profile, depth: int) -> Profile:
    """Return the profile with layers below `depth` parts of a name taken together.

    A block has the channels of all its layers, side by side, so nothing is rounded, lost or
    estimated, and blocks of merged profiles are the merged blocks. `calls` are added, `shape` and
    `channel_dim` are of its last layer, `dtype` and `backend` all there are; `type` is `3 layers`
    for three. Elements count as zeros where their layer counted them. Saturation is not known of a
    block whose layers have different bounds, such as a convolution and its ReLU6.

    A layer that was measured as a block itself is one of those taken together. Of parameters the
    weights, the gradients and the updates of a block have a row each, of the type of its members.

    Raises:
        FmstatsError: a depth that is no whole number, or below 1.
    """
    if not isinstance(depth, int) or depth < 1:
        raise FmstatsError(f"depth={depth!r}: give 1 or more parts of a name")
    if profile.metadata.get("of") == OF_PARAMETERS:
        rows = _pool_rows(profile.info, lambda name: _cut_parameter(name, depth))
        types: dict[str, str] = {}
        for name, row in profile.info.items():
            block = _cut_parameter(name, depth)
            if types.get(block, FROZEN).startswith(FROZEN):  # a block is, if all of it is
                types[block] = row.type
        named = {name: replace(row, type=types[name]) for name, row in rows.items()}
        return Profile(named, profile.metadata)
    groups = {
        name: _pool_rows(part.info, lambda name: _cut(name, depth))
        for name, part in profile.groups.items()
    }
    rows = _pool_rows(profile.info, lambda name: _cut(name, depth))
    return Profile(rows, profile.metadata, groups)


def _cut(name: str, depth: int) -> str:
    return ".".join(name.split(".")[:depth])


def _cut_parameter(name: str, depth: int) -> str:
    parameter, kind = split_name(name)
    return _cut(parameter, depth) + kind


def _pool_rows(
    rows: Mapping[str, LayerProfile], block_of: Callable[[str], str]
) -> dict[str, LayerProfile]:
    blocks: dict[str, list[LayerProfile]] = {}
    for name, layer in rows.items():
        blocks.setdefault(block_of(name), []).append(layer)
    return {
        name: members[0] if len(members) == 1 else _pool(members)
        for name, members in blocks.items()
    }


def _pool(layers: Sequence[LayerProfile]) -> LayerProfile:
    state = State.beside([layer.stats.state for layer in layers])
    bins = state.measures.bins
    if state.bins is not None and bins is not None and bins.scope == "layer":
        state.bins = state.bins.sum(0, keepdim=True)
    each = [layer.stats.thresholds for layer in layers]
    thresholds = each[0]
    if any((t.low, t.high) != (thresholds.low, thresholds.high) for t in each):
        thresholds = Thresholds()
        for field in ("sat_low", "sat_high"):
            state[field].zero_()
    return replace(
        layers[-1],
        type=f"{len(layers)} layers",
        calls=sum(layer.calls for layer in layers),
        unmasked=sum(layer.unmasked for layer in layers),
        dtype=unite_lists(layer.dtype for layer in layers),
        backend=unite_lists(layer.backend for layer in layers),
        layer=None,
        call=None,
        stats=ChannelStats(state, replace(thresholds, zero_tol=max(t.zero_tol for t in each))),
    )
