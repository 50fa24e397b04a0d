"""Time short pieces of a device's work, so that neither the host nor a cache flatters or slows it.

On a GPU the queue is filled behind a kernel that only waits, so that what is measured is the device
and not how fast the host asks. Ways take turns, and go through several copies of a tensor that
together are larger than the second-level cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch

LONGEST_WAIT = 1 << 31  # clocks
CLOCKS_A_CALL = 60_000  # to begin with: the host takes no more than some 30 us to ask
MOST_CALLS = 400  # in the queue: it holds about a thousand


class HostBound(Exception):  # noqa: N818 (what was found, not an error)
    """Reports that the device was idle before the host had asked for everything."""


def seconds_of(calls: Sequence[Callable[[], object]], device: torch.device) -> float:
    """Return the device's seconds for each of these calls, all asked for at once.

    Raises:
        HostBound: the host is slower than any wait allowed for.
    """
    if device.type != "cuda":
        started = time.perf_counter()
        for call in calls:
            call()
        return (time.perf_counter() - started) / len(calls)
    clocks = CLOCKS_A_CALL * len(calls)
    while clocks < LONGEST_WAIT:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        torch.cuda._sleep(clocks)
        begin.record()
        for call in calls:
            call()
        end.record()
        late = begin.query()
        end.synchronize()
        if not late:
            return begin.elapsed_time(end) * 1e-3 / len(calls)
        clocks *= 2
    raise HostBound(f"{len(calls)} calls take the host longer than {LONGEST_WAIT} clocks")


def rounds_of(
    ways: Mapping[str, Sequence[Callable[[], object]]],
    device: torch.device,
    rounds: int,
    least: float = 5e-4,
) -> dict[str, list[float]]:
    """Return the seconds per call of each way, one figure per round, alternating.

    Args:
        ways: the calls of each, one for each copy of its tensor.
        device: where they run.
        rounds: how many.
        least: seconds that a way runs for in a round.
    """
    calls = {}
    for name, way in ways.items():
        for call in way:
            call()
        alone = seconds_of(way, device)
        repeats = max(1, round(least / max(alone * len(way), 1e-9)))
        calls[name] = [*way] * min(repeats, max(1, MOST_CALLS // len(way)))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in ways:
            seconds[name].append(seconds_of(calls[name], device))
    return seconds
