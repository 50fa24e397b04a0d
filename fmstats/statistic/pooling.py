"""`pool` merges neighbouring channels of a state into one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fmstats.statistic.state import State, merge


def pool(state: State, widths: Sequence[int]) -> State:
    """Merge neighbouring channels into one.

    Each group is merged in halves, so that rounding grows with the logarithm of its channels; all
    groups at once.

    Args:
        state: on the CPU.
        widths: how many channels each group has, 1 or more; all channels are in one. Of histograms
            of layers there is one for each.
    """
    sums = state.measures.without_bins
    words, width = state.words, torch.tensor(widths, dtype=torch.int64)
    while (width > 1).any():
        half, odd = width // 2, width % 2 == 1
        begin = width.cumsum(0) - width
        first, second = (
            State(words[:, _runs(b, half)], measures=sums) for b in (begin, begin + half)
        )
        left_over = words[:, (begin + 2 * half)[odd]]
        width = width - half
        begin = width.cumsum(0) - width
        words = words.new_empty(len(sums.fields), int(width.sum()))
        words[:, _runs(begin, half)] = merge(first, second).words
        words[:, (begin + half)[odd]] = left_over
    return State(words, measures=state.measures, bins=_pool_bins(state, widths))


def pool_all(state: State) -> State:
    """Merge all channels of a state into one; of no channels, into one that has seen nothing.

    Args:
        state: on the CPU.
    """
    if state.channels == 0:
        return State.identity(1, measures=state.measures)
    return pool(state, [state.channels])


def _pool_bins(state: State, widths: Sequence[int]) -> Tensor | None:
    bins, asked = state.bins, state.measures.bins
    if bins is None or asked is None or asked.scope == "layer":
        return bins
    group = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths, dtype=torch.int64))
    return bins.new_zeros(len(widths), asked.words).index_add_(0, group, bins)


def _runs(begins: Tensor, lengths: Tensor) -> Tensor:
    """Return the numbers begin, begin + 1, ... of each run, one run after the other."""
    offsets = begins - (lengths.cumsum(0) - lengths)
    return torch.arange(int(lengths.sum())) + offsets.repeat_interleave(lengths)
