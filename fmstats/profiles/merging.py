"""Profiles are merged with all layers side by side in one state, in one step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from fmstats.errors import FmstatsError
from fmstats.models.experts import ExpertName
from fmstats.profiles.layer_profile import OtherDims, with_keys
from fmstats.profiles.metadata import merge_metadata, name_model, read_text
from fmstats.profiles.profile import LayerProfile, Profile, check_profile
from fmstats.profiles.row_names import RowKey, name_rows
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.state import State, merge_fields
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import tell_dim

MISSING = ("refuse", "keep", "drop")

_BLOCK = 16384  # channels; torch starts threads for twice as many


@dataclass(frozen=True)
class StackedLayer:
    """`StackedLayer` is one layer of a stack, whose statistics are in the state of all layers.

    Attributes:
        channels: columns of the state that are this layer's.
        layer: the module's name.
    """

    type: str
    channel_dim: int | None
    shape: tuple[int, ...]
    dtype: str
    calls: int
    backend: str
    channels: int
    thresholds: Thresholds
    layer: str
    call: int | None = None
    other_dims: OtherDims = ()
    unmasked: int = 0
    group: str | None = None

    @property
    def key(self) -> RowKey:
        """Return what it is of."""
        return RowKey(self.layer, self.call, self.channels, self.group)

    @property
    def dims(self) -> dict[int, int | None]:
        """Return the channel dim by the number of dims of a tensor."""
        return {**dict(self.other_dims), len(self.shape): self.channel_dim}

    @classmethod
    def of(cls, layer: LayerProfile) -> StackedLayer:
        """Return what is known of a layer beside its state."""
        known = {field: value for field, value in vars(layer).items() if field != "stats"}
        return cls(**known, channels=layer.stats.channels, thresholds=layer.stats.thresholds)


@dataclass(frozen=True)
class Stack:
    """A stack is a profile with the channels of all its `layers` in one state, in their order.

    The rows of groups come after those of all positions together.
    """

    layers: Mapping[str, StackedLayer]
    state: State
    metadata: Mapping[str, Any]

    @classmethod
    def of(cls, profile: Profile) -> Stack:
        """Return a profile as a stack; its states are copied."""
        per_call = profile.metadata.get("per_call") is True
        named = list(with_keys(profile.info, per_call).items())
        for group, part in profile.groups.items():
            rows = with_keys(part.info, per_call).items()
            named += [(f"{name}|{group}", replace(row, group=group)) for name, row in rows]
        layers = {name: StackedLayer.of(layer) for name, layer in named}
        if len(layers) < len(named):  # else one of them would be lost
            raise FmstatsError("a layer has the name of a row of a group: rename it, or the group")
        if len({row.key for row in layers.values()}) < len(layers):
            raise FmstatsError("two rows of the profile are of the same layer, call and width")
        return cls(layers, _side_by_side(row.stats.state for _, row in named), profile.metadata)

    @cached_property
    def names(self) -> dict[RowKey, str]:
        """Return what its rows are of, and their names."""
        return {row.key: name for name, row in self.layers.items()}

    def by_key(self) -> dict[RowKey, StackedLayer]:
        """Return its rows by what they are of."""
        return {row.key: row for row in self.layers.values()}

    def parts(self) -> list[State]:
        """Return the state of each row, a view of its columns."""
        widths = [row.channels for row in self.layers.values()]
        parts = torch.split(self.state.words, widths, 1) if widths else ()
        return [State(words) for words in parts]

    def profile(self) -> Profile:
        """Return the stack as a profile, whose states are copies: each can be kept by itself."""
        groups: dict[str | None, dict[RowKey, LayerProfile]] = {None: {}}
        for layer, part in zip(self.layers.values(), self.parts(), strict=True):
            known = dict(vars(layer)) | {"group": None}
            del known["channels"]
            stats = ChannelStats(part.clone(), known.pop("thresholds"))
            row = LayerProfile(**known, stats=stats)
            groups.setdefault(layer.group, {})[row.key] = row
        names = {key: name for key, name in self.names.items() if key.group is None}
        info = {names[key]: row for key, row in groups.pop(None).items()}
        return Profile(
            info,
            self.metadata,
            {
                str(group): {names.get(key) or key.base: row for key, row in rows.items()}
                for group, rows in groups.items()
            },
        )


def merge_profiles(profiles: Sequence[Profile], missing: str) -> Profile:
    """Merge profiles: see `Profile.merge`."""
    check_missing(missing)
    for profile in profiles:
        check_profile(profile, "merge()")
    if len(profiles) == 1:
        return profiles[0].with_metadata(profiles[0].metadata)
    merged = Stack.of(profiles[0])
    for other in profiles[1:]:
        merged = merge_stacks(merged, Stack.of(other), missing)
    return merged.profile()


def call_alike(profiles: Sequence[Profile], like: Profile) -> list[Profile]:
    """Return the profiles, with rows called as those of `like` that are of the same."""
    known = {row.key: name for name, row in like.info.items()}
    every = [row.key for profile in profiles for row in profile.info.values()]
    names = {**name_rows([*known, *every]), **known}
    return [
        Profile({names[row.key]: row for row in profile.info.values()}, profile.metadata)
        for profile in profiles
    ]


def check_missing(missing: str) -> None:
    """Refuse what `merge_stacks` does not know."""
    if missing not in MISSING:
        raise FmstatsError(f"missing={missing!r}: choose 'refuse', 'keep' or 'drop'")


def merge_stacks(a: Stack, b: Stack, missing: str) -> Stack:
    """Merge two stacks, see `Profile.merge`; the state of `a` is overwritten.

    Raises:
        FmstatsError: they do not fit together; nothing is overwritten.
    """
    if missing == "refuse":
        _require_same_model(a, b)
    if missing != "drop":
        _require_same_widths(a, b)
    mine, theirs = a.by_key(), b.by_key()
    both = [key for key in mine if key in theirs]
    if missing == "drop":
        both = [key for key in both if _misfit(mine[key], theirs[key]) is None]
        # A group need not be in both profiles, but its layer.
        fit = set(both)
        alone = {
            key: row
            for rows in (mine, theirs)
            for key, row in rows.items()
            if key.group is not None and key not in both and key._replace(group=None) in fit
        }
        if mine and theirs and not both:
            raise FmstatsError("cannot merge profiles that have no layer in common")
    rows = {key: _merge_layers(a.names[key], mine[key], theirs[key]) for key in both}
    rows = {**rows, **alone} if missing == "drop" else {**mine, **theirs, **rows}
    metadata = merge_metadata(a.metadata, b.metadata)
    names = a.names if a.names == b.names and len(rows) == len(a.names) else name_rows(rows)
    state = _arrange(a, rows)
    _merge_states_(state, _arrange(b, rows))
    return Stack({names[key]: row for key, row in rows.items()}, state, metadata)


def _merge_states_(a: State, b: State) -> None:
    """Merge `b` into `a`, some channels at a time: those stay in the cache, and on one core."""
    for begin in range(0, a.channels, _BLOCK):
        one, other = (State(state.words[:, begin : begin + _BLOCK]) for state in (a, b))
        for field, row in merge_fields(one, other).items():
            one[field].copy_(row)


def _require_same_model(a: Stack, b: Stack) -> None:
    one, other = (read_text(stack.metadata, "structure") for stack in (a, b))
    if one and other and one != other:
        raise FmstatsError(
            "cannot merge profiles of different models: "
            f"{name_model(a.metadata)} ({one:.8}) and {name_model(b.metadata)} ({other:.8}) have "
            "other layers, or parameters of other shapes; missing='drop' (--missing drop) merges "
            "the layers that fit"
        )
    only = {key.layer for key in a.names} ^ {key.layer for key in b.names}
    only = {name for name in only if ExpertName.of(name) is None}  # each rank may have others
    if only:
        raise FmstatsError(
            f"cannot merge profiles of different layers: {len(only)} of them are in one "
            f"profile only, such as {', '.join(map(repr, sorted(only)[:3]))}; missing='drop' "
            "(--missing drop) merges the others, missing='keep' keeps these as well"
        )


def _require_same_widths(a: Stack, b: Stack) -> None:
    """Refuse layers of one name that may be of two models, since they show other widths.

    With which widths and how often one model calls a layer depends on the data.
    """
    one, other = a.metadata.get("structure"), b.metadata.get("structure")
    if a.names == b.names or (isinstance(one, str) and one == other):
        return
    mine, theirs = _widths(a), _widths(b)
    for base in mine:
        if base in theirs and mine[base] != theirs[base]:
            some, others = (
                " and ".join(map(str, sorted(widths[base]))) for widths in (mine, theirs)
            )
            raise FmstatsError(
                f"cannot merge layer {base!r}: {some} channels in one profile, {others} in the "
                "other, and they are not known to be of one model"
            )


def _widths(stack: Stack) -> dict[str, set[int]]:
    widths: dict[str, set[int]] = {}
    for key in stack.names:
        widths.setdefault(key.base, set()).add(key.width)
    return widths


def find_misfit(a: StackedLayer, b: StackedLayer) -> str | None:
    """Tell why the statistics of two rows of one key are not of the same; None if they are."""
    for number in a.dims.keys() & b.dims.keys():
        if a.dims[number] != b.dims[number]:
            return (
                f"{tell_dim(a.dims[number])} and {tell_dim(b.dims[number])} of tensors of "
                f"{number} dims"
            )
    if a.thresholds != b.thresholds:
        return f"counted under different thresholds: {a.thresholds} and {b.thresholds}"
    return None


def _misfit(a: StackedLayer, b: StackedLayer) -> str | None:
    return f"{a.type} and {b.type}" if a.type != b.type else find_misfit(a, b)


def _merge_layers(name: str, a: StackedLayer, b: StackedLayer) -> StackedLayer:
    misfit = _misfit(a, b)
    if misfit is not None:
        raise FmstatsError(f"cannot merge layer {name!r}: {misfit}")
    shape = max(a.shape, b.shape)
    dims = a.dims | b.dims
    return replace(
        a,
        calls=a.calls + b.calls,
        unmasked=a.unmasked + b.unmasked,
        shape=shape,
        channel_dim=dims.pop(len(shape)),
        other_dims=tuple(sorted(dims.items())),
        dtype=unite_lists([a.dtype, b.dtype]),
        backend=unite_lists([a.backend, b.backend]),
    )


def unite_lists(texts: Iterable[str]) -> str:
    """Unite what several lists name, such as "cpu" and "torch, cpu": sorted, each once."""
    return ", ".join(sorted({part for text in texts for part in text.split(", ")}))


def _arrange(stack: Stack, rows: Mapping[RowKey, StackedLayer]) -> State:
    """Return the state with columns for `rows`, in their order: of no data for those it lacks."""
    if list(stack.names) == list(rows):
        return stack.state
    parts = {row.key: part for row, part in zip(stack.layers.values(), stack.parts(), strict=True)}
    return _side_by_side(
        parts[key] if key in parts else State.identity(row.channels) for key, row in rows.items()
    )


def _side_by_side(states: Iterable[State]) -> State:
    words = [State.identity(0).words.numpy(), *(state.words.numpy() for state in states)]
    return State(torch.from_numpy(np.concatenate(words, 1)))
