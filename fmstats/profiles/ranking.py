"""`rank_channels` puts the channels of all layers in one order, by one of their numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fmstats.errors import FmstatsError, find_closest
from fmstats.models.selection import fitting_names, has_name
from fmstats.profiles.layer_profile import LayerProfile
from fmstats.statistic.distribution import Array

BESIDE = ("mean", "std", "sparsity", "max")  # what a row tells of its channel in any case


def rank_channels(
    rows: Mapping[str, LayerProfile],
    by: str,
    *,
    top: int | None = None,
    share: float | None = None,
    layers: str | Iterable[str] | None = None,
    types: str | Iterable[str] | None = None,
    ascending: bool = False,
) -> list[dict[str, Any]]:
    """Return a row per channel, those with the largest number first: see `Profile.rank`."""
    chosen = _choose(rows, _listed(layers), _listed(types))
    numbers = [_column(layer, by) for layer in chosen.values()]
    if not any(number is not None for number in numbers):
        known = dict.fromkeys(n for layer in chosen.values() for n in layer.stats.columns)
        near = find_closest(by, list(known), count=1)
        hint = f"; closest: {near[0]}" if near else ""
        raise FmstatsError(
            f"rank by {by!r}: no layer has such a number{hint}; choose from {', '.join(known)}"
        )
    channels = [layer.stats.channels for layer in chosen.values()]
    keys = np.concatenate([_fill(n, c) for n, c in zip(numbers, channels, strict=True)])
    order = _sort(keys, ascending)[: _most(len(keys), top, share)]
    first = np.cumsum([0, *channels])
    places = np.searchsorted(first, order, side="right") - 1
    names = list(chosen)
    told = (by, *(name for name in BESIDE if name != by))
    columns = {
        place: chosen[names[place]].stats.columns_of(told) for place in dict.fromkeys(places)
    }
    return [
        {
            "rank": rank,
            "layer": names[place],
            "type": chosen[names[place]].type,
            "channel": int(index - first[place]),
            **_numbers(columns[place], int(index - first[place])),
        }
        for rank, (index, place) in enumerate(zip(order, places, strict=True), 1)
    ]


def _listed(names: str | Iterable[str] | None) -> Sequence[str]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def _choose(
    rows: Mapping[str, LayerProfile], layers: Sequence[str], types: Sequence[str]
) -> dict[str, LayerProfile]:
    named = {name for pattern in layers for name in fitting_names(pattern, rows.keys(), "layers")}
    chosen = {
        name: row
        for name, row in rows.items()
        if (not layers or name in named)
        and (not types or any(has_name(pattern, row.type) for pattern in types))
    }
    if not chosen:
        known = ", ".join(dict.fromkeys(row.type for row in rows.values()))
        raise FmstatsError(
            f"types={list(types)!r} match no layer chosen: there are {known or 'none'}"
        )
    return chosen


def _column(layer: LayerProfile, by: str) -> Array | None:
    """Return the number of each channel, None where the layer does not have it."""
    return layer.stats.columns_of([by])[by] if by in layer.stats.columns else None


def _fill(numbers: Array | None, channels: int) -> Array:
    return np.full(channels, np.nan) if numbers is None else numbers.astype(np.float64)


def _sort(keys: Array, ascending: bool) -> Array:
    """Return the order of keys; equal ones stay in the order of execution, NaN come last."""
    known = np.flatnonzero(~np.isnan(keys))
    order = np.argsort(keys[known] if ascending else -keys[known], kind="stable")
    return np.concatenate([known[order], np.flatnonzero(np.isnan(keys))])


def _most(channels: int, top: int | None, share: float | None) -> int | None:
    if top is not None and share is not None:
        raise FmstatsError(f"top={top} and share={share:g} exclude each other: give one of them")
    if top is not None and top < 0:
        raise FmstatsError(f"top={top}: give the number of channels, 0 or more")
    if share is None:
        return top
    if not 0 <= share <= 1:
        raise FmstatsError(f"share={share:g}: give a share of all channels chosen, from 0 to 1")
    return math.ceil(share * channels)


def _numbers(columns: Mapping[str, Array | None], channel: int) -> dict[str, Any]:
    return {n: None if column is None else column[channel].item() for n, column in columns.items()}
