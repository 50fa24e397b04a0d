"""`LayerProfile` is one row of a profile, and tells what it is of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fmstats.profiles.measured import summarise_measured
from fmstats.profiles.row_names import RowKey, read_name
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.distribution import Array

# Numbers of dims of tensors, and the dim of their channels: None where all is one channel.
OtherDims = tuple[tuple[int, int | None], ...]


@dataclass(frozen=True)
class LayerProfile:
    """One row of a profile tells of a layer, or of one width or one call of a layer.

    Examples:
        >>> import torch
        >>> with fmstats.track(model := torch.nn.ReLU()) as tracker:
        ...     out = model(torch.ones(8, 4, 5, 5))
        >>> row = tracker.stats().info["(model)"]
        >>> (row.type, row.shape, row.channel_dim, row.calls)
        ('ReLU', (8, 4, 5, 5), 1, 1)

    Attributes:
        type: the module's class name.
        channel_dim: the dim of its output that was read as channels, in tensors as `shape`; None
            where all of it was read as one channel.
        shape: of the last tensor seen.
        dtype: of the last tensor seen, as "float32".
        calls: tensors measured.
        backend: what measured them.
        stats: the numbers of its channels.
        layer: the module's name. None: what the row is called in the profile.
        call: which call of the layer in a forward pass, from 0; None: all of them.
        other_dims: a number of dims and the channel dim, for each number of dims that other tensors
            than `shape` had, sorted.
        unmasked: tensors that were counted whole, though a mask was given that did not fit them.
        group: of the positions that it is of, in a profile that holds groups beside all positions.
    """

    type: str
    channel_dim: int | None
    shape: tuple[int, ...]
    dtype: str
    calls: int
    backend: str
    stats: ChannelStats
    layer: str | None = None
    call: int | None = None
    other_dims: OtherDims = ()
    unmasked: int = 0
    group: str | None = None

    @property
    def key(self) -> RowKey:
        """Return what the row is of."""
        return RowKey(self.layer or "", self.call, self.stats.channels, self.group)

    @property
    def dims(self) -> dict[int, int | None]:
        """Return the channel dim by the number of dims of a tensor."""
        return {**dict(self.other_dims), len(self.shape): self.channel_dim}


def with_keys(rows: Mapping[str, LayerProfile], per_call: bool) -> dict[str, LayerProfile]:
    """Return rows that each tell what they are of, as their names do, no two the same.

    Args:
        rows: by name.
        per_call: whether there is one for each call, for those that only their names tell of.
    """
    told: dict[str, LayerProfile] = {}
    keys: set[RowKey] = set()
    for name, row in rows.items():
        told[name] = _with_key(name, row, per_call, keys)
        keys.add(told[name].key)
    return told


def _with_key(
    name: str, row: LayerProfile, per_call: bool, others: Collection[RowKey]
) -> LayerProfile:
    fits = row.layer is not None and name in (row.key.base, row.key.full)
    if fits and row.key not in others:
        return row
    layer, call = (name, None) if fits else read_name(name, per_call)
    return replace(row, layer=layer, call=call)


def summarise(
    name: str, layer: LayerProfile, whole: ChannelStats, measured: Collection[str]
) -> dict[str, Any]:
    """Return a layer's row of `Profile.layers`.

    Args:
        name: the row's.
        layer: what was measured.
        whole: all its channels taken together.
        measured: columns that are there on request.
    """
    stats = layer.stats
    seen = stats.mean[stats.finite_count > 0]
    return {
        "layer": name,
        "type": layer.type,
        "channels": stats.channels,
        "count": int(stats.count.sum()),
        "mean": _only(whole.mean),
        "mean_spread": float(seen.std()) if seen.size else float("nan"),
        "std": _only(whole.std),
        "sparsity": _only(whole.sparsity),
        "dead": int(stats.dead.sum()),
        "never_active": int(stats.never_active.sum()),
        "saturated": None if whole.saturated is None else _only(whole.saturated),
        "nan": int(stats.nan.sum()),
        "inf": int((stats.pos_inf + stats.neg_inf).sum()),
        "min": _only(whole.min),
        "max": _only(whole.max),
        **summarise_measured(stats, whole, measured),
    }


def _only(values: Array) -> float:
    return float(values[0]) if len(values) else float("nan")
