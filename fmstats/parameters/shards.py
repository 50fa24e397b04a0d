"""Parameters of which each rank holds a part, as under `fully_shard`, and profiles of all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch.nn as nn
from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.profiles.layer_profile import LayerProfile
from fmstats.profiles.profile import Profile
from fmstats.profiles.ranks import check_group, gather
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.state import State


@dataclass(frozen=True)
class Share:
    """Tells which part of a parameter this rank holds.

    Attributes:
        dim: along which it is cut.
        first: the index of its first slice.
        size: slices of the whole parameter.
    """

    dim: int
    first: int
    size: int


def find_share(name: str, parameter: Tensor) -> Share | None:
    """Return which part of a parameter this rank holds; None where it holds all of it.

    Raises:
        FmstatsError: it is cut in another way than `fully_shard` does.
    """
    placements: Any = getattr(parameter, "placements", None)
    if placements is None:
        return None
    cut = [placement for placement in placements if not placement.is_replicate()]
    if not cut:
        return None
    mesh: Any = getattr(parameter, "device_mesh")  # noqa: B009  # a DTensor's alone
    if len(cut) > 1 or type(cut[0]).__name__ != "Shard":
        raise FmstatsError(
            f"parameter {name!r} is a DTensor of placements {tuple(placements)}: measured are "
            "plain tensors, and DTensors that are cut along one dim (fully_shard); exclude= it"
        )
    along = list(placements).index(cut[0])
    dim = int(cut[0].dim)
    size = int(parameter.shape[dim])
    each = -(-size // int(mesh.size(along)))  # as torch.chunk cuts it
    return Share(dim, min(int(mesh.get_local_rank(along)) * each, size), size)


def refuse_flattened(model: nn.Module) -> None:
    """Refuse a model whose parameters lie in flat buffers, without their shapes and channels.

    Raises:
        FmstatsError: a module of it is a FullyShardedDataParallel.
    """
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        raise FmstatsError(
            f"{type(model).__name__} has a FullyShardedDataParallel, which cuts parameters without "
            "regard to their channels: use fully_shard (FSDP2), whose parameters can be measured"
        )


def widen(row: LayerProfile, share: Share) -> LayerProfile:
    """Return the row of the whole parameter that has seen this rank's part alone."""
    if row.channel_dim != share.dim:
        return row  # every rank has a part of each channel
    own = row.stats.state
    before = State.identity(share.first, measures=own.measures)
    behind = State.identity(share.size - share.first - own.channels, measures=own.measures)
    stats = ChannelStats(State.beside([before, own, behind]), row.stats.thresholds)
    return replace(row, stats=stats)


def join_ranks(profile: Profile, shared: Sequence[str], group: object) -> Profile:
    """Return the profile of all ranks of `group`, on each of them.

    Args:
        profile: of this rank.
        shared: the rows of parameters that ranks hold parts of. Of others all ranks hold the same,
            as DistributedDataParallel does: those of the first rank stand for all.
        group: as `ParameterTracker.stats` takes it.

    Raises:
        FmstatsError: torch.distributed is not initialised, or the profiles do not fit together.
    """
    profiles = gather(profile, check_group(group, "stats"))
    cut = set(shared)
    parts = [Profile({n: r for n, r in p.info.items() if n in cut}, p.metadata) for p in profiles]
    together = parts[0].merge(*parts[1:], missing="keep") if cut else parts[0]
    rows = {name: together.info.get(name, row) for name, row in profiles[0].info.items()}
    return Profile(rows, profiles[0].metadata)
