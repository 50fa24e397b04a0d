"""What histograms take is said before it is taken, and not taken where there is no room for it."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from fmstats.errors import FmstatsError
from fmstats.statistic.bins import Bins, show_bytes

NOTABLE = 64_000_000  # bytes, of all histograms together, from which on somebody is told
MOST_OF_FREE = 0.5  # of the free memory, that histograms may take at once
_MEMINFO = Path("/proc/meminfo")  # of Linux


def find_free(device: torch.device) -> int | None:
    """Return the bytes of memory that are free on a device; None where that is not known."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type != "cpu" or not _MEMINFO.is_file():
        return None
    found = re.search(r"^MemAvailable: +(\d+) kB$", _MEMINFO.read_text(), re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


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
            f"{histograms:,} histograms would take {show_bytes(size)} (resolution="
            f"{bins.resolution}, {show_bytes(bins.bytes)} each), more than half of the "
            f"{show_bytes(free)} that are free on {device}: {suggest_smaller(bins)}"
        )


def suggest_smaller(bins: Bins) -> str:
    """Say which histograms take less memory, and how much."""
    choices = []
    if bins.scope == "channel":
        choices.append(f"histogram='layer' takes {show_bytes(bins.bytes)} a layer")
    if bins.resolution:
        less = Bins(bins.scope, max(bins.resolution - 2, 0))
        size = show_bytes(less.bytes)
        choices.append(f"resolution={less.resolution} takes {size} a {bins.scope}")
    return ", ".join([*choices, "include= and exclude= choose layers"])
