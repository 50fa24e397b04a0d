"""This module defines the state of some channels, its identity, and how two states merge.

The C++ twin is csrc/state.h. A state is a commutative
monoid: any split of the data, measured apart and merged, gives the same exact fields, and the same
moments up to float64 rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.statistic.fields import EXTREMES, FIRSTS, IDENTITY, NEVER, NON_FINITE
from fmstats.statistic.measures import ALWAYS, Measures
from fmstats.statistic.merging import GROWTH, merge_fields


class State:
    """A state holds what has been seen of some channels: a row a field, a column a channel.

    Attributes:
        words: int64 tensor (len(measures.fields), channels) on any device. Rows of `COUNTS` and
            `FIRSTS` hold int64; the others hold float64 in the same 8-byte words, so that a kernel
            needs one pointer and a rank one message. Rows are contiguous, apart by
            `words.stride(0)`.
        measures: what it holds beside what is always measured.
        bins: int64 (histograms, measures.bins.words), contiguous: of each channel, or of each layer
            whose channels are here. None where none are measured.
        memory: int64, in one dim: the words, behind them the bins, and last the number of tensors
            that graphs have measured, which no host counts. None for words from elsewhere.
    """

    __slots__ = ("bins", "measures", "memory", "words")

    measures: Measures

    def __init__(
        self,
        words: Tensor,
        memory: Tensor | None = None,
        *,
        measures: Measures = ALWAYS,
        bins: Tensor | None = None,
    ) -> None:
        count = len(measures.fields)
        if words.dtype != torch.int64 or words.dim() != 2 or words.shape[0] != count:
            raise FmstatsError(
                f"a state is an int64 tensor of {count} rows, one a field; "
                f"got {words.dtype} of shape {tuple(words.shape)}"
            )
        if (bins is None) != (measures.bins is None):
            raise FmstatsError(f"a state that measures {measures} lacks its bins, or has some")
        self.words, self.memory, self.measures, self.bins = words, memory, measures, bins

    @classmethod
    def in_memory(cls, memory: Tensor, measures: Measures = ALWAYS, histograms: int = 0) -> State:
        """Return the state that lies in such a `memory`, as it is.

        Args:
            memory: as of a state.
            measures: what it holds.
            histograms: how many.
        """
        width = 0 if measures.bins is None else measures.bins.words
        end = memory.numel() - 1 - histograms * width
        words = memory[:end].view(len(measures.fields), end // len(measures.fields))
        bins = None if measures.bins is None else memory[end:-1].view(histograms, width)
        return cls(words, memory, measures=measures, bins=bins)

    @classmethod
    def identity(
        cls,
        channels: int,
        device: torch.device | str = "cpu",
        measures: Measures = ALWAYS,
        groups: int = 1,
    ) -> State:
        """Make the state of no data: merging it changes nothing.

        Args:
            channels: how many, in all groups together.
            device: where its words are to be.
            measures: what it is to hold.
            groups: of channels, or layers, each of which has a histogram of its own.
        """
        histograms = 0 if measures.bins is None else measures.bins.rows(channels, groups)
        width = 0 if measures.bins is None else measures.bins.words
        size = len(measures.fields) * channels + histograms * width + 1
        # A tensor made in inference mode could never be changed outside it.
        with torch.inference_mode(False), torch.no_grad():
            memory = torch.zeros(size, dtype=torch.int64, device=device)
            state = cls.in_memory(memory, measures, histograms)
            for field in (*EXTREMES, *FIRSTS):
                state[field].fill_(IDENTITY[field])
        return state

    @classmethod
    def of(
        cls,
        fields: Mapping[str, Tensor],
        measures: Measures = ALWAYS,
        bins: Tensor | None = None,
    ) -> State:
        """Pack fields into words.

        Args:
            fields: for each field of the measures a tensor of one length, the number of channels;
                without `FIRSTS` these are `NEVER`.
            measures: what it is to hold.
            bins: its histograms, if there are any.
        """
        never = torch.full_like(fields["count"], NEVER, dtype=torch.int64)
        rows = [
            fields[f].to(torch.float64).contiguous().view(torch.int64)
            if f in measures.reals
            else fields.get(f, never).to(torch.int64)
            for f in measures.fields
        ]
        return cls(torch.stack(rows), measures=measures, bins=bins)

    @classmethod
    def beside(cls, states: Sequence[State], measures: Measures = ALWAYS) -> State:
        """Return a state that has the channels of all, one state after the other, and their bins.

        Args:
            states: on the CPU.
            measures: of the result, if there are no states.

        Raises:
            FmstatsError: they do not hold the same measures.
        """
        known = dict.fromkeys(state.measures for state in states)
        if len(known) > 1:
            raise FmstatsError("states hold different measures: " + " and ".join(map(str, known)))
        measures = next(iter(known), measures)
        nothing = cls.identity(0, measures=measures, groups=0)
        parts = (nothing, *states)  # numpy joins the views of a thousand layers faster than torch
        words = torch.from_numpy(np.concatenate([part.words.numpy() for part in parts], 1))
        if measures.bins is None:
            return cls(words, measures=measures)
        bins = torch.cat([part.bins for part in parts if part.bins is not None])
        return cls(words, measures=measures, bins=bins)

    def __getitem__(self, field: str) -> Tensor:
        """Return the row of a field, a view: int64 for counts and firsts, float64 for others."""
        row = self.words[self.measures.places[field]]
        return row.view(torch.float64) if field in self.measures.reals else row

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
    def held(self) -> tuple[Tensor, ...]:
        """Return all that the state holds: its memory, or its words and bins where it has none."""
        if self.memory is not None:
            return (self.memory,)
        return (self.words,) if self.bins is None else (self.words, self.bins)

    @property
    def replayed(self) -> int:
        """Return how many tensors graphs have measured; on a GPU this waits for the device."""
        return 0 if self.memory is None else int(self.memory[-1])

    def to(self, device: torch.device | str) -> State:
        """Return this state on a `device` (itself if it is there already)."""
        return self._with(lambda tensor: tensor.to(device))

    def clone(self) -> State:
        """Return a copy that shares no memory."""
        return self._with(lambda tensor: tensor.clone(memory_format=torch.contiguous_format))

    def _with(self, change: Callable[[Tensor], Tensor]) -> State:
        bins = None if self.bins is None else change(self.bins)
        return State(change(self.words), measures=self.measures, bins=bins)

    def split(self, widths: Sequence[int]) -> list[State]:
        """Return the states of neighbouring channels; they share its words and bins.

        Args:
            widths: how many channels each has, all together. Of histograms of layers there is one
                for each.
        """
        words = torch.split(self.words, list(widths), 1) if widths else ()
        if self.bins is None or self.measures.bins is None:
            return [State(part, measures=self.measures) for part in words]
        rows = [self.measures.bins.rows(width) for width in widths]
        bins = torch.split(self.bins, rows) if widths else ()
        return [
            State(part, measures=self.measures, bins=beside)
            for part, beside in zip(words, bins, strict=True)
        ]

    def narrowed(self, measures: Measures) -> State:
        """Return a copy that holds no more than some of its measures.

        Args:
            measures: which; its bins are those of this state, if it has any.
        """
        rows = [self.measures.places[field] for field in measures.fields]
        bins = None if self.bins is None or measures.bins is None else self.bins.clone()
        return State(self.words[rows], measures=measures, bins=bins)

    def reset_(self) -> None:
        """Forget all data, in place."""
        measures = self.measures.without_bins
        self.words.copy_(State.identity(self.channels, self.words.device, measures).words)
        if self.bins is not None:
            self.bins.zero_()
        if self.memory is not None:
            self.memory[-1:].zero_()

    def begin_with_(self, other: State) -> None:
        """Hold in the first channels and histograms what another state holds, in place.

        Args:
            other: of the same measures, and of as many channels or fewer.
        """
        self.words[:, : other.channels].copy_(other.words)
        if self.bins is not None and other.bins is not None:
            self.bins[: other.bins.shape[0]].copy_(other.bins)

    def scale_(self, before: float, after: float) -> None:
        """Turn the state of what was multiplied by `before` into that of it times `after`.

        Raises:
            FmstatsError: it has histograms, whose bins do not move.
        """
        if before == after:
            return
        if self.bins is not None:
            raise FmstatsError(
                "a histogram cannot be scaled: its bins count the numbers that were seen"
            )
        for field, power in GROWTH.items():
            for _ in range(power if field in self.measures.places else 0):
                self[field].mul_(after).div_(before)

    def merge_(self, other: State) -> None:
        """Merge `other` into this state, in place."""
        merged = merge(self, other)
        self.words.copy_(merged.words)
        if self.bins is not None and merged.bins is not None:
            self.bins.copy_(merged.bins)


def merge(a: State, b: State) -> State:
    """Combine two states as if their data had been seen together (Chan, Golub, LeVeque 1979).

    Nothing is read back to the host.

    Args:
        a: a state.
        b: one of the same channels and measures, on the same device.

    Raises:
        FmstatsError: the numbers of channels or the measures differ.
    """
    bins = None if a.bins is None or b.bins is None else a.bins + b.bins
    return State.of(merge_fields(a, b), a.measures, bins)
