"""This module defines the state of some channels, its identity, and how two states merge.

The C++ twin is csrc/state.h. A state is a commutative
monoid: any split of the data, measured apart and merged, gives the same exact fields, and the same
moments up to float64 rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.statistic.fields import (
    COUNTS,
    EXTREMES,
    FIELDS,
    FIRSTS,
    IDENTITY,
    MINIMA,
    MOMENTS,
    NEVER,
    NON_FINITE,
    SUMS,
)
from fmstats.statistic.float_order import at_places, places


class State:
    """A state holds what has been seen of some channels: a row a field, a column a channel.

    Attributes:
        words: int64 tensor (len(FIELDS), channels) on any device. Rows of `COUNTS` and `FIRSTS`
            hold int64; rows of `MOMENTS` hold float64 in the same 8-byte words, so that a kernel
            needs one pointer and a rank one message. Rows are contiguous, apart by
            `words.stride(0)`.
        memory: int64 (len(FIELDS) * channels + 1,): the words and behind them the number of tensors
            that graphs have measured, which no host counts. None for words from elsewhere.
    """

    __slots__ = ("memory", "words")

    def __init__(self, words: Tensor, memory: Tensor | None = None) -> None:
        if words.dtype != torch.int64 or words.dim() != 2 or words.shape[0] != len(FIELDS):
            raise FmstatsError(
                f"a state is an int64 tensor of {len(FIELDS)} rows, one a field; "
                f"got {words.dtype} of shape {tuple(words.shape)}"
            )
        self.words, self.memory = words, memory

    @classmethod
    def in_memory(cls, memory: Tensor) -> State:
        """Return the state that lies in such a `memory`, as it is."""
        channels = (memory.numel() - 1) // len(FIELDS)
        return cls(memory[:-1].view(len(FIELDS), channels), memory)

    @classmethod
    def identity(cls, channels: int, device: torch.device | str = "cpu") -> State:
        """Make the state of no data: merging it changes nothing.

        Args:
            channels: how many.
            device: where its words are to be.
        """
        # A tensor made in inference mode could never be changed outside it.
        with torch.inference_mode(False), torch.no_grad():
            words = len(FIELDS) * channels
            state = cls.in_memory(torch.zeros(words + 1, dtype=torch.int64, device=device))
            for field in (*EXTREMES, *FIRSTS):
                state[field].fill_(IDENTITY[field])
        return state

    @classmethod
    def of(cls, fields: Mapping[str, Tensor]) -> State:
        """Pack fields into words.

        Args:
            fields: for each of `FIELDS` a tensor of one length, the number of channels; without
                `FIRSTS` these are `NEVER`.
        """
        rows = [fields[f].to(torch.int64) for f in COUNTS]
        rows += [fields[f].to(torch.float64).contiguous().view(torch.int64) for f in MOMENTS]
        never = torch.full_like(rows[0], NEVER)
        rows += [fields.get(f, never) for f in FIRSTS]
        return cls(torch.stack(rows))

    def __getitem__(self, field: str) -> Tensor:
        """Return the row of a field, a view: float64 for moments, int64 for others."""
        row = self.words[FIELDS.index(field)]
        return row.view(torch.float64) if field in MOMENTS else row

    @property
    def channels(self) -> int:
        """Return the number of channels."""
        return int(self.words.shape[1])

    @property
    def finite(self) -> Tensor:
        """Count the elements that are neither NaN nor infinite, int64 (channels,)."""
        finite = self["count"]
        for field in NON_FINITE:
            finite = finite - self[field]
        return finite

    @property
    def held(self) -> Tensor:
        """Return all that the state holds: its memory, or its words where it has none."""
        return self.words if self.memory is None else self.memory

    @property
    def replayed(self) -> int:
        """Return how many tensors graphs have measured; on a GPU this waits for the device."""
        return 0 if self.memory is None else int(self.memory[-1])

    def to(self, device: torch.device | str) -> State:
        """Return this state on a `device` (itself if it is there already)."""
        return State(self.words.to(device))

    def clone(self) -> State:
        """Return a copy that shares no memory."""
        return State(self.words.clone(memory_format=torch.contiguous_format))

    def reset_(self) -> None:
        """Forget all data, in place."""
        empty = State.identity(self.channels, self.words.device)
        self.words.copy_(empty.words)
        if self.memory is not None:
            self.memory[-1:].zero_()

    def scale_(self, before: float, after: float) -> None:
        """Turn the state of what was multiplied by `before` into that of it times `after`."""
        if before == after:
            return
        for field in ("mean", "min", "max", "m2", "m2"):  # that of squares twice
            self[field].mul_(after).div_(before)

    def merge_(self, other: State) -> None:
        """Merge `other` into this state, in place."""
        self.words.copy_(merge(self, other).words)


def copy_to_host(states: Sequence[State]) -> list[State]:
    """Copy states to the CPU, with one transfer from each device, however many states it has.

    No kernel that runs in another thread can tear them: CPU kernels hold the interpreter lock while
    they write, and so does the copy of bytes.
    """
    copies: dict[int, State] = {}
    for device in dict.fromkeys(state.words.device for state in states):
        there = [state for state in states if state.words.device == device]
        if device.type == "cpu":
            for state in filter(lambda state: state.channels, there):
                copied = bytearray(state.held.numpy().tobytes())
                copies[id(state)] = _read(torch.frombuffer(copied, dtype=torch.int64), state)
        else:
            together = torch.cat([state.held.reshape(-1) for state in there]).to("cpu")
            parts = torch.split(together, [state.held.numel() for state in there])
            copies |= {id(s): _read(held.clone(), s) for s, held in zip(there, parts, strict=True)}
    return [copies[id(state)] if state.channels else State.identity(0) for state in states]


def _read(held: Tensor, state: State) -> State:
    """Return the state that holds what another one held, in one dim."""
    if state.memory is None:
        return State(held.view(len(FIELDS), -1))
    return State.in_memory(held)


def merge(a: State, b: State) -> State:
    """Combine two states as if their data had been seen together (Chan, Golub, LeVeque 1979).

    Nothing is read back to the host.

    Args:
        a: a state.
        b: one of the same channels, on the same device.

    Raises:
        FmstatsError: the numbers of channels differ.
    """
    return State.of(merge_fields(a, b))


def merge_fields(a: State, b: State) -> dict[str, Tensor]:
    """Merge two states into a tensor for each of `FIELDS`, to be put anywhere.

    Raises:
        FmstatsError: the numbers of channels differ.
    """
    if a.channels != b.channels:
        raise FmstatsError(f"cannot merge a state of {a.channels} channels with {b.channels}")
    na, nb = a.finite.to(torch.float64), b.finite.to(torch.float64)
    share = nb / (na + nb).clamp(min=1)
    delta = b["mean"] - a["mean"]
    # A distance beyond float64 is gone in halves.
    half = (0.5 * b["mean"] - 0.5 * a["mean"]) * share
    mean = torch.where(delta.isinf(), a["mean"] + half + half, a["mean"] + delta * share)
    # In this order nothing overflows or underflows that the product does not.
    m2 = a["m2"] + b["m2"] + delta * (na * share) * delta
    fields = {f: a[f] + b[f] for f in (*COUNTS, *SUMS)}
    # With nothing finite on one side the formulas hold, unless delta overflows: then 0 * inf.
    only_a, only_b = nb == 0, na == 0
    for field, both in (("mean", mean), ("m2", m2)):
        fields[field] = torch.where(only_a, a[field], torch.where(only_b, b[field], both))
    for field in EXTREMES:
        join = torch.minimum if field in MINIMA else torch.maximum
        fields[field] = at_places(join(places(a[field]), places(b[field])))
    return fields | {f: torch.minimum(a[f], b[f]) for f in FIRSTS}


def split_groups(state: State, channels: int) -> list[State]:
    """Return the states of the groups that a state has one after the other; they share its words.

    Args:
        state: of a multiple of so many channels.
        channels: of each group.
    """
    begins = range(0, state.channels, channels)
    return [State(state.words[:, begin : begin + channels]) for begin in begins]


def merge_groups(state: State, channels: int) -> State:
    """Merge the groups that a state has one after the other.

    They are merged in halves, so that rounding grows with the logarithm of their number.

    Args:
        state: of a multiple of so many channels; it is not changed.
        channels: of each group.
    """
    states = split_groups(state, channels)
    while len(states) > 1:
        pairs = zip(states[::2], states[1::2], strict=False)
        states = [merge(a, b) for a, b in pairs] + states[len(states) // 2 * 2 :]
    return states[0]


def pool(state: State, widths: Sequence[int]) -> State:
    """Merge neighbouring channels into one.

    Each group is merged in halves, so that rounding grows with the logarithm of its channels; all
    groups at once.

    Args:
        state: on the CPU.
        widths: how many channels each group has, 1 or more; all channels are in one.
    """
    words, width = state.words, torch.tensor(widths, dtype=torch.int64)
    while (width > 1).any():
        half, odd = width // 2, width % 2 == 1
        begin = width.cumsum(0) - width
        first, second = (State(words[:, _runs(b, half)]) for b in (begin, begin + half))
        left_over = words[:, (begin + 2 * half)[odd]]
        width = width - half
        begin = width.cumsum(0) - width
        words = words.new_empty(len(FIELDS), int(width.sum()))
        words[:, _runs(begin, half)] = merge(first, second).words
        words[:, (begin + half)[odd]] = left_over
    return State(words)


def _runs(begins: Tensor, lengths: Tensor) -> Tensor:
    """Return the numbers begin, begin + 1, ... of each run, one run after the other."""
    offsets = begins - (lengths.cumsum(0) - lengths)
    return torch.arange(int(lengths.sum())) + offsets.repeat_interleave(lengths)
