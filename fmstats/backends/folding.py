"""`fold` merges the partials of all layers of a graph into their states, by PyTorch's operations.

Nothing is read back to the host, so that a graph may hold it. Kernels do the same in one launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.statistic.clock import WORDS, Clock
from fmstats.statistic.fields import FIELDS, MODES
from fmstats.statistic.packing import MOST_POSITIONS, Packing
from fmstats.statistic.partials import add_planes, count_words, split, to_state
from fmstats.statistic.state import State


class Layer(NamedTuple):
    """A layer is what a graph has reduced one tensor to, and where it goes.

    Attributes:
        partials: int32, (words, planes, channels), as `statistic/partials.py` tells.
        memory: of its `State`.
        positions: elements of a channel, in all planes together.
        mode: one of `MODES`.
        packing: of its counts.
    """

    partials: Tensor
    memory: Tensor
    positions: int
    mode: str
    packing: Packing


def fold(
    partials: Sequence[Tensor],
    states: Sequence[Tensor],
    clock: Tensor,
    positions: Sequence[int],
    modes: Sequence[int],
) -> None:
    """Fold the partials of layers, if the gate of the clock is open; see `Backend.fold`."""
    layers = layers_of(partials, states, clock, positions, modes)
    now = Clock.in_words(clock)
    opens = now.opens()
    for layer in layers:
        layer.memory[-1:].add_(opens)
        state = State.in_memory(layer.memory)
        parts = split(layer.partials, layer.mode, layer.packing)
        batch = to_state(add_planes(parts, layer.packing), layer.positions)
        nothing = State.identity(batch.channels, layer.memory.device)
        batch = State(torch.where(opens, batch.words, nothing.words))
        now.stamp(batch)
        state.merge_(batch)


def check(
    partials: Sequence[Tensor],
    states: Sequence[Tensor],
    clock: Tensor,
    positions: Sequence[int],
    modes: Sequence[int],
) -> None:
    """Refuse arguments of `fold` that do not fit each other.

    Raises:
        FmstatsError: another number, shape, dtype or device than they must have.
    """
    layers_of(partials, states, clock, positions, modes)


def layers_of(
    partials: Sequence[Tensor],
    states: Sequence[Tensor],
    clock: Tensor,
    positions: Sequence[int],
    modes: Sequence[int],
) -> list[Layer]:
    """Return the layers that the arguments of `fold` are of.

    Raises:
        FmstatsError: as `check` does.
    """
    if not len(partials) == len(states) == len(positions) == len(modes):
        raise FmstatsError(
            f"fold takes one of each for a layer, got {len(partials)} tensors of partials, "
            f"{len(states)} states, {len(positions)} positions and {len(modes)} modes"
        )
    for mode in modes:
        if not 0 <= mode < len(MODES):
            raise FmstatsError(f"mode {mode} is not known; modes are 0 to {len(MODES) - 1}")
    if clock.dtype != torch.int64 or clock.shape != (len(WORDS),):
        raise FmstatsError(f"a clock is {len(WORDS)} int64, got {_kind(clock)}")
    layers = []
    for number, (part, memory, count, mode) in enumerate(
        zip(partials, states, positions, modes, strict=True)
    ):
        name = f"layer {number}"
        if part.device != clock.device:
            raise FmstatsError(
                f"the partials of {name} are on {part.device}, the clock on {clock.device}"
            )
        layers.append(_layer(name, part, memory, count, MODES[mode]))
    return layers


def _layer(name: str, partials: Tensor, memory: Tensor, positions: int, mode: str) -> Layer:
    channels = (memory.numel() - 1) // len(FIELDS)
    whole = memory.dim() == 1 and memory.numel() == len(FIELDS) * channels + 1
    if memory.dtype != torch.int64 or not whole or not memory.is_contiguous():
        raise FmstatsError(f"the state of {name} is no memory of a State: {_kind(memory)}")
    planes = partials.shape[1] if partials.dim() == 3 else 1
    if planes < 1 or positions % planes or not 1 <= positions // planes <= MOST_POSITIONS:
        raise FmstatsError(
            f"{name} has {positions} positions a channel in {planes} planes; each has the same "
            f"number, from 1 to {MOST_POSITIONS}"
        )
    packing = Packing.of(positions // planes)
    shape = (count_words(mode, packing), planes, channels)
    fits = partials.dtype == torch.int32 and partials.shape == shape
    if not fits or not partials.is_contiguous():
        raise FmstatsError(
            f"the partials of {name} must be contiguous torch.int32 of shape {shape}, words, "
            f"planes and channels, got {_kind(partials)}"
        )
    if partials.storage_offset() % 2:
        raise FmstatsError(f"the partials of {name} begin at no multiple of 8 bytes")
    return Layer(partials, memory, positions, mode, packing)


def _kind(x: Tensor) -> str:
    return f"{x.dtype} of shape {tuple(x.shape)} and strides {x.stride()}"
