"""`fold` merges the partials of all layers of a graph into their states, by PyTorch's operations.

Nothing is read back to the host, so that a graph may hold it. Kernels do the same in one launch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.statistic.clock import WORDS, Clock
from fmstats.statistic.fields import FIELDS, MODES
from fmstats.statistic.packing import MOST_POSITIONS, Packing
from fmstats.statistic.partials import add_planes, part_dtype, part_names, to_state
from fmstats.statistic.state import State


class Layer(NamedTuple):
    """A layer is what a graph has reduced one tensor to, and where it goes.

    Attributes:
        memory: of its `State`.
        positions: elements of a channel, in all planes together.
        mode: one of `MODES`.
        packing: of its counts.
        planes: how many there are.
        partials: by the names of `part_names`.
    """

    memory: Tensor
    positions: int
    mode: str
    packing: Packing
    planes: int
    partials: Mapping[str, Tensor]


def fold(
    parts: Sequence[Tensor],
    states: Sequence[Tensor],
    clock: Tensor,
    positions: Sequence[int],
    modes: Sequence[int],
) -> None:
    """Fold the partials of layers, if the gate of the clock is open; see `Backend.fold`."""
    layers = layers_of(parts, states, clock, positions, modes)
    now = Clock.in_words(clock)
    opens = now.opens()
    for layer in layers:
        layer.memory[-1:].add_(opens)
        state = State.in_memory(layer.memory)
        batch = to_state(add_planes(layer.partials, layer.packing), layer.positions)
        nothing = State.identity(batch.channels, layer.memory.device)
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
    layers_of(parts, states, clock, positions, modes)


def layers_of(
    parts: Sequence[Tensor],
    states: Sequence[Tensor],
    clock: Tensor,
    positions: Sequence[int],
    modes: Sequence[int],
) -> list[Layer]:
    """Return the layers that the arguments of `fold` are of.

    Raises:
        FmstatsError: as `check` does.
    """
    if not len(states) == len(positions) == len(modes):
        lengths = f"{len(states)} states, {len(positions)} positions and {len(modes)} modes"
        raise FmstatsError(f"fold takes one of each for a layer, got {lengths}")
    for mode in modes:
        if not 0 <= mode < len(MODES):
            raise FmstatsError(f"mode {mode} is not known; modes are 0 to {len(MODES) - 1}")
    if clock.dtype != torch.int64 or clock.shape != (len(WORDS),):
        raise FmstatsError(f"a clock is {len(WORDS)} int64, got {_kind(clock)}")
    layers, left = [], iter(parts)
    for number, (memory, count, mode) in enumerate(zip(states, positions, modes, strict=True)):
        layer = _layer(f"layer {number}", left, memory, count, MODES[mode])
        for name, partial in layer.partials.items():
            if partial.device != clock.device:
                raise FmstatsError(
                    f"{name} of layer {number} is on {partial.device}, the clock on {clock.device}"
                )
        layers.append(layer)
    used = sum(len(layer.partials) for layer in layers)
    if used != len(parts):
        raise FmstatsError(f"these layers have {used} partials, got {len(parts)}")
    return layers


def _layer(name: str, left: Iterator[Tensor], memory: Tensor, positions: int, mode: str) -> Layer:
    """Return the layer whose partials come next; refuse those that do not fit."""
    channels = (memory.numel() - 1) // len(FIELDS)
    whole = memory.dim() == 1 and memory.numel() == len(FIELDS) * channels + 1
    if memory.dtype != torch.int64 or not whole or not memory.is_contiguous():
        raise FmstatsError(f"the state of {name} is no memory of a State: {_kind(memory)}")
    first = next(left, None)
    if first is None:
        raise FmstatsError(f"{name} has no partials")
    shape = tuple(first.shape)
    if len(shape) not in (1, 2) or shape[-1] != channels:
        raise FmstatsError(
            f"partials of {name} are of ({channels},) or (planes, {channels}), got {_kind(first)}"
        )
    planes = shape[0] if len(shape) == 2 else 1
    if planes < 1 or positions % planes or not 1 <= positions // planes <= MOST_POSITIONS:
        raise FmstatsError(
            f"{name} has {positions} positions a channel in {planes} planes; each has the same "
            f"number, from 1 to {MOST_POSITIONS}"
        )
    packing = Packing.of(positions // planes)
    names = part_names(mode, packing)
    partials = dict(zip(names, chain((first,), left), strict=False))
    if len(partials) < len(names):
        raise FmstatsError(f"{name} has {len(names)} partials, got {len(partials)}")
    for part, partial in partials.items():
        dtype = part_dtype(part)
        if partial.dtype != dtype or partial.shape != shape or not partial.is_contiguous():
            raise FmstatsError(
                f"{part} of {name} must be contiguous {dtype} of shape {shape}, "
                f"got {_kind(partial)}"
            )
    return Layer(memory, positions, mode, packing, planes, partials)


def _kind(x: Tensor) -> str:
    return f"{x.dtype} of shape {tuple(x.shape)} and strides {x.stride()}"
