"""What histograms take is said before it is taken, and not taken where there is no room for it."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from fmstats.errors import FmstatsError
from fmstats.output.tables import format_count
from fmstats.statistic.bins import Bins

NOTABLE = 64_000_000  # bytes, of all histograms together, from which on somebody is told
MOST_OF_FREE = 0.5  # of the free memory, that histograms may take at once
_MEMINFO = Path("/proc/meminfo")  # of Linux
_CGROUP = Path("/sys/fs/cgroup")  # of the container that this process is in, if it is in one


def find_free(device: torch.device) -> int | None:
    """Return the bytes of memory that are free on a device; None where that is not known."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type != "cpu" or not _MEMINFO.is_file():
        return None
    found = re.search(r"^MemAvailable: +(\d+) kB$", _MEMINFO.read_text(), re.MULTILINE)
    of_machine = None if found is None else int(found[1]) * 1024
    known = [free for free in (of_machine, _find_free_in_container()) if free is not None]
    return min(known, default=None)


def _find_free_in_container() -> int | None:
    """Return the bytes below the limit of the control group; None where there is no limit."""
    try:
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        cached = re.search(r"^inactive_file (\d+)$", (_CGROUP / "memory.stat").read_text(), re.M)
    except (OSError, ValueError):  # no such files, or "max"
        return None
    # What files keep in memory is given back when somebody needs room.
    return limit - used + (0 if cached is None else int(cached[1]))


def check_room(bins: Bins, histograms: int, device: torch.device) -> None:
    """Refuse histograms that would take most of the free memory.

    Args:
        bins: what each is.
        histograms: how many there would be.
        device: on which.

    Raises:
        FmstatsError: it names the memory, and what takes less.
    """
    size = bins.bytes * histograms
    if size < NOTABLE:  # which no machine lacks: reading what is free takes time
        return
    free = find_free(device)
    if free is not None and size > MOST_OF_FREE * free:
        raise FmstatsError(
            f"{histograms:,} histograms would take {format_count(size, 'B')} (resolution="
            f"{bins.resolution}, {format_count(bins.bytes, 'B')} each), more than half of the "
            f"{format_count(free, 'B')} that are free on {device}: {suggest_smaller(bins)}"
        )


def suggest_smaller(bins: Bins) -> str:
    """Say which histograms take less memory, and how much."""
    choices = []
    if bins.scope == "channel":
        choices.append(f"histogram='layer' takes {format_count(bins.bytes, 'B')} a layer")
    if bins.resolution:
        less = Bins(bins.scope, max(bins.resolution - 2, 0))
        size = format_count(less.bytes, "B")
        choices.append(f"resolution={less.resolution} takes {size} a {bins.scope}")
    return ", ".join([*choices, "include= and exclude= choose layers"])
