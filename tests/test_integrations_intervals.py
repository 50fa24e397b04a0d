"""Intervals of a training run, as frameworks share them."""

from __future__ import annotations

import torch
from torch import nn

from fmstats.integrations.intervals import Intervals
from fmstats.profiles.summary import describe_metadata


def test_what_is_noted_does_not_differ() -> None:
    model = nn.Linear(2, 2)
    intervals = Intervals(model)
    for step in (3, 5):
        intervals.begin()
        model(torch.randn(4, 2))
        intervals.end()
        intervals.flush(step)
    assert intervals.last is not None
    assert intervals.last.metadata["steps"] == [4, 5]
    assert intervals.profile is not None
    assert intervals.profile.metadata["steps"] == [1, 5]
    assert "differs" not in intervals.profile.metadata
    assert "not the same in all of them" not in describe_metadata(intervals.profile)


def test_what_is_not_noted_still_differs() -> None:
    model = nn.Linear(2, 2)
    intervals = Intervals(model)
    for step in (1, 2):
        intervals.begin()
        model(torch.randn(4, 2))
        intervals.end()
        intervals.flush(step)
        assert intervals.profile is not None
        intervals.profile.metadata["note"] = f"of step {step}"
        intervals.profile.metadata["differs"] = ["every", "torch"]
    intervals.begin()
    model(torch.randn(4, 2))
    intervals.end()
    intervals.flush(3)
    assert intervals.profile.metadata["differs"] == ["every", "torch"]
