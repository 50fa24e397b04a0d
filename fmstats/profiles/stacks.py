"""A `Stack` is a profile with the channels of all its layers in one state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fmstats.errors import FmstatsError
from fmstats.profiles.layer_profile import OtherDims, with_keys
from fmstats.profiles.profile import LayerProfile, Profile
from fmstats.profiles.row_names import RowKey
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds


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
        state = State.beside([row.stats.state for _, row in named])
        return cls(layers, state, profile.metadata)

    @cached_property
    def names(self) -> dict[RowKey, str]:
        """Return what its rows are of, and their names."""
        return {row.key: name for name, row in self.layers.items()}

    def by_key(self) -> dict[RowKey, StackedLayer]:
        """Return its rows by what they are of."""
        return {row.key: row for row in self.layers.values()}

    def parts(self) -> list[State]:
        """Return the state of each row, a view of its columns."""
        return self.state.split([row.channels for row in self.layers.values()])

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
