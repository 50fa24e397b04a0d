"""Split a run over several processes, each of which runs every n-th batch, and merge."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from fmstats.errors import FmstatsError
from fmstats.profiles.profile import Profile
from fmstats.profiles.ranks import check_group, gather
from fmstats.runs.account import PASSES, Account, join
from fmstats.runs.reading import Share

# A rank may be done long before the others; one that died is recognised by its closed connection.
_PATIENCE = timedelta(days=7)


def share_of(group: object) -> Share:
    """Return this process's share in a process group ("world" for all); None: everything.

    Raises:
        FmstatsError: torch.distributed is not initialised, or this process is not of the group.
    """
    if group is None:
        return Share()
    among = check_group(group, "profile")
    return Share(dist.get_rank(among), dist.get_world_size(among))


def path_of(path: Path, share: Share) -> Path:
    """Return the checkpoint of one process: `run.rank0of4.fmstats` for `run.fmstats`."""
    if share.ranks == 1:
        return path
    return path.with_name(f"{path.stem}.rank{share.rank}of{share.ranks}{path.suffix}")


def merge_shards(profile: Profile, group: object) -> Profile:
    """Merge the profiles of all processes of a run, in the order of ranks, on each of them."""
    if group is None:
        return profile
    among = check_group(group, "profile")
    return join_parts(gather(profile, among))


def join_parts(parts: Sequence[Profile]) -> Profile:
    """Join what the processes of one run have measured into the profile of that run."""
    first, *others = [part for part in parts if part] or parts[:1]
    whole = first.merge(*others, missing="keep")
    joined = join([Account.of_metadata(part.metadata) for part in parts], parallel=True)
    passes = {key: sum(part.metadata[key] for part in parts) for key in PASSES}
    backends = {k: v for part in parts for k, v in part.metadata["backends"].items()}
    known = {**first.metadata, **joined.to_metadata(), **passes, "backends": backends}
    return whole.with_metadata({**known, "processes": len(parts)})


@contextlib.contextmanager
def join_launched(device: str | None) -> Iterator[tuple[Share, str | None]]:
    """Join the processes that `torchrun` has started with this one, if it was started so.

    Gives this process's share, and the device for it: its own GPU of several. Profiles are merged
    on the host, by gloo.

    Raises:
        FmstatsError: the others cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Share(), device
        return
    try:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise FmstatsError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the other processes cannot be joined "
            f"({error}): start them with torchrun --nproc-per-node N -m fmstats ..."
        ) from error
    local = os.environ.get("LOCAL_RANK", "0")
    try:
        yield share_of("world"), f"cuda:{local}" if device == "cuda" else device
    finally:
        dist.destroy_process_group()
