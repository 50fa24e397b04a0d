"""A state may have the channels of several groups, one group after the other."""

from __future__ import annotations

from fmstats.statistic.state import State, merge


def split_groups(state: State, channels: int) -> list[State]:
    """Return the states of the groups that a state has one after the other; they share its words.

    Args:
        state: of a multiple of so many channels.
        channels: of each group.
    """
    return state.split([channels] * (state.channels // channels)) if channels else [state]


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
