"""One profile of what all ranks of a distributed run have seen."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

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
