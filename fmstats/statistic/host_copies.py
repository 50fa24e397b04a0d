"""`copy_to_host` reads many states at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fmstats.statistic.state import State


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
                parts = [
                    torch.frombuffer(bytearray(part.numpy().tobytes()), dtype=torch.int64)
                    for part in state.held
                ]
                copies[id(state)] = _read(parts, state)
        else:
            held = [part.reshape(-1) for state in there for part in state.held]
            together = torch.cat(held).to("cpu")
            rest = iter(torch.split(together, [part.numel() for part in held]))
            copies |= {id(s): _read([next(rest).clone() for _ in s.held], s) for s in there}
    return [
        copies[id(state)] if state.channels else State.identity(0, measures=state.measures)
        for state in states
    ]


def _read(held: Sequence[Tensor], state: State) -> State:
    """Return the state that holds what another one held, each in one dim."""
    if state.memory is not None:
        histograms = 0 if state.bins is None else state.bins.shape[0]
        return State.in_memory(held[0], state.measures, histograms)
    bins = None if state.bins is None else held[1].view(state.bins.shape)
    return State(held[0].view(state.words.shape), measures=state.measures, bins=bins)
