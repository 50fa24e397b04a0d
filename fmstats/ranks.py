"""One profile of what all ranks of a distributed run have seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.distributed as dist
import torch.nn as nn

from fmstats.errors import FmstatsError
from fmstats.profiles import Profile


def merge_ranks(profile: Profile, group: object) -> Profile:
    """The profiles of all ranks of `group` ("world" for all), merged in the order of ranks.

    Every rank calls it and gets the same bits. A layer that only some ranks have seen is kept.

    Raises:
        FmstatsError: torch.distributed is not initialised, or the profiles do not fit together.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise FmstatsError(
            "stats(group=...) needs torch.distributed to be initialised: call init_process_group "
            "first, or stats() for what this process has seen"
        )
    outside = dist.GroupMember.NON_GROUP_MEMBER  # what new_group() gives ranks that are not in it
    if not (group in ("world", outside) or isinstance(group, dist.ProcessGroup)):
        raise FmstatsError(f"stats(group={group!r}): choose 'world' or a process group")
    among: Any = None if group == "world" else group
    ranks = dist.get_world_size(among)
    if ranks < 1:
        raise FmstatsError(
            f"stats(group=...): rank {dist.get_rank()} is not of that group: call it on the ranks "
            "that are, or with group='world' on all"
        )
    profiles: list[Any] = [None] * ranks
    dist.all_gather_object(profiles, profile, group=among)
    return profiles[0].merge(*profiles[1:], missing="keep")  # type: ignore[no-any-return]


def refuse_split_channels(profile: Profile, modules: Mapping[str, nn.Module | None]) -> None:
    """Refuse layers of which each rank has its own channels, as plain tensors.

    So does tensor parallelism that shards a layer's outputs (`ColwiseParallel`). Merging would add
    up channels that are not the same ones. FSDP shards weights alone: outputs are whole.

    Raises:
        FmstatsError: there is such a layer.
    """
    for name, module in modules.items():
        weight: Any = getattr(module, "weight", None)
        if not hasattr(weight, "placements"):  # no DTensor
            continue
        channels, whole, own = profile[name].channels, weight.shape[0], weight.to_local().shape[0]
        if channels == own != whole:
            raise FmstatsError(
                f"layer {name!r} ({type(module).__name__}) gives this rank {channels} of its "
                f"{whole} channels: merging over ranks would mix different ones. Use stats() on "
                "each rank, use_local_output=False, or exclude= the layer"
            )
