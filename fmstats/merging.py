"""Many profiles as one: their layers side by side in one state, so that all merge in one step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fmstats.derived import ChannelStats
from fmstats.errors import FmstatsError
from fmstats.metadata import merge_metadata
from fmstats.profiles import LayerProfile, Profile, check_profile
from fmstats.statistic import State, Thresholds, merge_fields

MISSING = ("refuse", "keep", "drop")

_BLOCK = 16384  # channels; torch starts threads for twice as many


@dataclass(frozen=True)
class StackedLayer:
    """One layer of a stack: a `LayerProfile` whose statistics are in the state of all layers.

    Attributes:
        channels: columns of the state that are this layer's.
    """

    type: str
    channel_dim: int
    shape: tuple[int, ...]
    dtype: str
    calls: int
    backend: str
    channels: int
    thresholds: Thresholds

    @classmethod
    def of(cls, layer: LayerProfile) -> StackedLayer:
        """What is known of a layer beside its state."""
        known = {field: value for field, value in vars(layer).items() if field != "stats"}
        return cls(**known, channels=layer.stats.channels, thresholds=layer.stats.thresholds)


@dataclass(frozen=True)
class Stack:
    """A profile with the channels of all its layers in one state, in the order of `layers`."""

    layers: Mapping[str, StackedLayer]
    state: State
    metadata: Mapping[str, Any]

    @classmethod
    def of(cls, profile: Profile) -> Stack:
        """A profile as a stack; its states are copied."""
        layers = {name: StackedLayer.of(layer) for name, layer in profile.info.items()}
        states = [layer.stats.state for layer in profile.info.values()]
        return cls(layers, _side_by_side(states), profile.metadata)

    def parts(self) -> dict[str, State]:
        """The state of each layer, a view of its columns."""
        widths = [layer.channels for layer in self.layers.values()]
        parts = torch.split(self.state.words, widths, 1) if widths else ()
        return {name: State(words) for name, words in zip(self.layers, parts, strict=True)}

    def profile(self) -> Profile:
        """The stack as a profile, whose states are copies: each can be sent or kept by itself."""
        info, parts = {}, self.parts()
        for name, layer in self.layers.items():
            known = dict(vars(layer))
            del known["channels"]
            stats = ChannelStats(parts[name].clone(), known.pop("thresholds"))
            info[name] = LayerProfile(**known, stats=stats)
        return Profile(info, self.metadata)


def merge_profiles(profiles: Sequence[Profile], missing: str) -> Profile:
    """See `Profile.merge`."""
    check_missing(missing)
    for profile in profiles:
        check_profile(profile, "merge()")
    if len(profiles) == 1:
        return Profile(profiles[0].info, profiles[0].metadata)
    merged = Stack.of(profiles[0])
    for other in profiles[1:]:
        merged = merge_stacks(merged, Stack.of(other), missing)
    return merged.profile()


def check_missing(missing: str) -> None:
    """Refuse what `merge_stacks` does not know."""
    if missing not in MISSING:
        raise FmstatsError(f"missing={missing!r}: choose 'refuse', 'keep' or 'drop'")


def merge_stacks(a: Stack, b: Stack, missing: str) -> Stack:
    """Two stacks as one; see `Profile.merge`. The state of `a` is overwritten.

    Raises:
        FmstatsError: they do not fit together; nothing is overwritten.
    """
    both = {name: layer for name, layer in a.layers.items() if name in b.layers}
    if missing == "refuse":
        _require_same_model(a, b)
    if missing == "drop":
        both = {n: layer for n, layer in both.items() if _misfit(layer, b.layers[n]) is None}
        if a.layers and b.layers and not both:
            raise FmstatsError("cannot merge profiles that have no layer in common")
    layers = {name: _merge_layers(name, layer, b.layers[name]) for name, layer in both.items()}
    if missing == "keep":
        layers = {**a.layers, **b.layers, **layers}
    metadata = merge_metadata(a.metadata, b.metadata)
    state = _arrange(a, layers)
    _merge_states_(state, _arrange(b, layers))
    return Stack(layers, state, metadata)


def _merge_states_(a: State, b: State) -> None:
    """As `a.merge_(b)`, some channels at a time: those stay in the cache, and on one core."""
    for begin in range(0, a.channels, _BLOCK):
        one, other = (State(state.words[:, begin : begin + _BLOCK]) for state in (a, b))
        for field, row in merge_fields(one, other).items():
            one[field].copy_(row)


def _require_same_model(a: Stack, b: Stack) -> None:
    one, other = a.metadata.get("structure"), b.metadata.get("structure")
    if isinstance(one, str) and isinstance(other, str) and one != other:
        raise FmstatsError(
            "cannot merge profiles of different models: "
            f"{a.metadata.get('model')} ({one:.8}) and {b.metadata.get('model')} ({other:.8}) have "
            "other layers, or parameters of other shapes; missing='drop' (--only-common) merges "
            "the layers that fit"
        )
    only = sorted(set(a.layers) ^ set(b.layers))
    if only:
        raise FmstatsError(
            f"cannot merge profiles of different layers: {len(only)} of them are in one "
            f"profile only, such as {', '.join(map(repr, only[:3]))}; missing='drop' "
            "(--only-common) merges the others, missing='keep' keeps these as well"
        )


def find_misfit(a: StackedLayer, b: StackedLayer) -> str | None:
    """Why the statistics of two layers of one name are not of the same things; None if they are."""
    if a.channel_dim != b.channel_dim or a.channels != b.channels:
        return (
            f"{a.channels} channels in dim {a.channel_dim} and {b.channels} in dim {b.channel_dim}"
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
    return replace(
        a,
        calls=a.calls + b.calls,
        shape=max(a.shape, b.shape),
        dtype=unite_lists([a.dtype, b.dtype]),
        backend=unite_lists([a.backend, b.backend]),
    )


def unite_lists(texts: Iterable[str]) -> str:
    """All that several lists name, such as "cpu" and "torch, cpu", as one: sorted, each once."""
    return ", ".join(sorted({part for text in texts for part in text.split(", ")}))


def _arrange(stack: Stack, layers: Mapping[str, StackedLayer]) -> State:
    """The state with columns for `layers`, in their order: of no data for those it has not."""
    if list(stack.layers) == list(layers):
        return stack.state
    parts = stack.parts()
    return _side_by_side(
        parts[name] if name in parts else State.identity(layer.channels)
        for name, layer in layers.items()
    )


def _side_by_side(states: Iterable[State]) -> State:
    words = [State.identity(0).words.numpy(), *(state.words.numpy() for state in states)]
    return State(torch.from_numpy(np.concatenate(words, 1)))
