"""The triton backend: when it is there, what it compiles, and what a hook does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn as nn
import triton_host
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor

import fmstats
from fmstats.backends.reference import ReferenceBackend
from fmstats.backends.triton import engine
from fmstats.layout import view_of
from fmstats.statistic import State, Thresholds

interpreted = pytest.mark.skipif(not engine.interpreting(), reason="needs TRITON_INTERPRET=1")
compiled = triton_host.needs_triton


def state_of(backend: Any, *tensors: Tensor, thresholds: Thresholds | None = None) -> State:
    view = view_of(tensors[0], 1)
    state = State.identity(view.channels)
    meter = backend.meter(state, thresholds or Thresholds())
    for x in tensors:
        if not meter.try_fold(x):
            meter.fold(x, view_of(x, 1))
    return state


@interpreted
def test_interpreted_as_a_user_would() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(5 * 36, 7))
    batches = [torch.randn(2, 3, 8, 8) for _ in range(3)]
    profiles = []
    for backend in ("triton", "reference"):
        with torch.inference_mode(), fmstats.track(model, backend=backend) as tracker:
            for batch in batches:
                model(batch)
        profiles.append(tracker.stats())
    assert profiles[0].layers == profiles[0].layers
    for name, want in profiles[1].items():
        got = profiles[0][name]
        assert_equal_states(got.state, want.state, ACCURACY[torch.float32])


@interpreted
def test_interpreted_merge_is_the_one_merge() -> None:
    """The Triton merge against `statistic.merge`, on states of all kinds."""
    import triton
    import triton.language as tl  # noqa: F401
    from merge_kernel import merge_states

    from fmstats.statistic import merge

    assert triton.runtime is not None
    for a, b in state_pairs():
        got = State.identity(a.channels)
        merge_states[(a.channels,)](a.words, b.words, got.words, a.channels)
        assert_equal_states(got, merge(a, b), (1e-15, 1e-14))


def state_pairs() -> list[tuple[State, State]]:
    reference = ReferenceBackend()
    kinds = [torch.randn(4, 6), torch.full((4, 6), torch.nan), torch.zeros(4, 6), None]
    states = [State.identity(6) if x is None else state_of(reference, x) for x in kinds]
    return [(a, b) for a in states for b in states]
