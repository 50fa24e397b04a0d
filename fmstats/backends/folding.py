"""`fold` merges the partials of all layers of a graph into their states, by PyTorch's operations.

Nothing is read back to the host, so that a graph may hold it. Kernels do the same in one launch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.statistic.clock import WORDS, Clock
from fmstats.statistic.fields import EXTREMES, FIELDS, MODES
from fmstats.statistic.partials import add_planes, count_names, part_names, to_state
from fmstats.statistic.state import State

_COUNTS = (torch.float32, torch.int64)


def fold(
    parts: Sequence[Tensor],
    states: Sequence[Tensor],
    clock: Tensor,
    positions: Sequence[int],
    modes: Sequence[int],
) -> None:
    """Fold the partials of layers, if the gate of the clock is open; see `Backend.fold`."""
    check(parts, states, clock, positions, modes)
    now = Clock.in_words(clock)
    opens = now.opens()
    begin = 0
    for memory, count, mode in zip(states, positions, modes, strict=True):
        names = part_names(MODES[mode])
        partials = dict(zip(names, parts[begin : begin + len(names)], strict=True))
        begin += len(names)
        memory[-1:].add_(opens)
        if count == 0:  # nor have its partials an extreme
            continue
        state = State.in_memory(memory)
        batch = to_state(add_planes(partials), count)
        nothing = State.identity(batch.channels, memory.device)
        batch = State(torch.where(opens, batch.words, nothing.words))
        now.stamp(batch)
        state.merge_(batch)


def check(
    parts: Sequence[Tensor],
    states: Sequence[Tensor],
    clock: Tensor,
    positions: Sequence[int],
    modes: Sequence[int],
) -> None:
    """Refuse arguments of `fold` that do not fit each other.

    Raises:
        FmstatsError: another number, shape, dtype or device than they must have.
    """
    if not len(states) == len(positions) == len(modes):
        lengths = f"{len(states)} states, {len(positions)} positions and {len(modes)} modes"
        raise FmstatsError(f"fold takes one of each for a layer, got {lengths}")
    for mode in modes:
        if not 0 <= mode < len(MODES):
            raise FmstatsError(f"mode {mode} is not known; modes are 0 to {len(MODES) - 1}")
    names = [part_names(MODES[mode]) for mode in modes]
    expected = sum(map(len, names))
    if len(parts) != expected:
        raise FmstatsError(f"these layers have {expected} partials, got {len(parts)}")
    if clock.dtype != torch.int64 or clock.shape != (len(WORDS),):
        raise FmstatsError(f"a clock is {len(WORDS)} int64, got {_kind(clock)}")
    left = iter(parts)
    for layer, (memory, mode, named) in enumerate(zip(states, modes, names, strict=True)):
        channels = (memory.numel() - 1) // len(FIELDS)
        whole = memory.dim() == 1 and memory.numel() == len(FIELDS) * channels + 1
        if memory.dtype != torch.int64 or not whole or not memory.is_contiguous():
            raise FmstatsError(f"state {layer} is no memory of a State: {_kind(memory)}")
        _check_partials(
            f"layer {layer}", dict(zip(named, left, strict=False)), channels, mode, clock.device
        )


def _check_partials(
    layer: str, partials: dict[str, Tensor], channels: int, mode: int, device: torch.device
) -> None:
    """Refuse the partials of one layer if they are not what they must be."""
    counts = count_names(MODES[mode])
    first = partials[counts[0]]
    planes = tuple(first.shape)
    if first.dtype not in _COUNTS or len(planes) not in (1, 2) or planes[-1] != channels:
        raise FmstatsError(
            f"counts of {layer} are float32 or int64 of ({channels},) or (planes, {channels}), "
            f"got {_kind(first)}"
        )
    for name, partial in partials.items():
        dtype = (
            first.dtype if name in counts else torch.int32 if name in EXTREMES else torch.float64
        )
        if partial.dtype != dtype or partial.shape != planes or not partial.is_contiguous():
            raise FmstatsError(
                f"{name} of {layer} must be contiguous {dtype} of shape {planes}, "
                f"got {_kind(partial)}"
            )
        if partial.device != device:
            raise FmstatsError(f"{name} of {layer} is on {partial.device}, the clock on {device}")


def _kind(x: Tensor) -> str:
    return f"{x.dtype} of shape {tuple(x.shape)} and strides {x.stride()}"
