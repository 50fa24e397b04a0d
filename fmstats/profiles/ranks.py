"""`merge_ranks` makes one profile of what all ranks of a distributed run have seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch.distributed as dist
import torch.nn as nn

from fmstats.errors import FmstatsError
from fmstats.models.wrappers import read_attribute
from fmstats.profiles.profile import Profile

_T = TypeVar("_T")


def check_group(group: object, asked: str) -> Any:
    """Return a process group as torch.distributed takes it; "world" is all ranks.

    Args:
        group: what somebody gave.
        asked: what it was given to, for the error.

    Raises:
        FmstatsError: torch.distributed is not initialised, it is no group, or this process is not
            one of its ranks.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise FmstatsError(
            f"{asked}(group=...) needs torch.distributed to be initialised: call "
            f"init_process_group first, or {asked}() for what this process has seen"
        )
    outside = dist.GroupMember.NON_GROUP_MEMBER  # what new_group() gives ranks that are not in it
    if not (group in ("world", outside) or isinstance(group, dist.ProcessGroup)):
        raise FmstatsError(f"{asked}(group={group!r}): choose 'world' or a process group")
    among: Any = None if group == "world" else group
    if dist.get_world_size(among) == -1:
        raise FmstatsError(
            f"{asked}(group=...): rank {dist.get_rank()} is not of that group: call it on the "
            "ranks that are, or with group='world' on all"
        )
    return among


def merge_ranks(profile: Profile, group: object) -> Profile:
    """Merge the profiles of all ranks of `group` ("world" for all) in the order of ranks.

    Every rank calls it and gets the same bits. A layer that only some ranks have seen is kept.

    Raises:
        FmstatsError: torch.distributed is not initialised, or the profiles do not fit together.
    """
    profiles = gather(profile, check_group(group, "stats"))
    return profiles[0].merge(*profiles[1:], missing="keep")


def gather(value: _T, among: Any) -> list[_T]:
    """Return the value that each rank gives, on each rank, in their order."""
    values: list[Any] = [None] * dist.get_world_size(among)
    dist.all_gather_object(values, value, group=among)
    return values


def refuse_split_channels(profile: Profile, modules: Mapping[str, nn.Module | None]) -> None:
    """Refuse layers of which each rank has its own channels, as plain tensors.

    So does tensor parallelism that shards a layer's outputs (`ColwiseParallel`). Merging would add
    up channels that are not the same ones. FSDP shards weights alone: outputs are whole.

    Raises:
        FmstatsError: there is such a layer.
    """
    for name, row in profile.info.items():
        module = modules.get(row.layer or name)
        weight: Any = read_attribute(module, "weight")
        if not hasattr(weight, "placements"):  # no DTensor
            continue
        channels, whole, own = row.stats.channels, weight.shape[0], weight.to_local().shape[0]
        if channels == own != whole:
            raise FmstatsError(
                f"layer {name!r} ({type(module).__name__}) gives this rank {channels} of its "
                f"{whole} channels: merging over ranks would mix different ones. Use stats() on "
                "each rank, use_local_output=False, or exclude= the layer"
            )
