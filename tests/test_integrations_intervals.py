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


def run_batch(intervals: Intervals, model: nn.Module) -> None:
    intervals.begin()
    model(torch.randn(4, 2))
    intervals.end()


def test_a_multiple_is_reached_once() -> None:
    intervals = Intervals(nn.Linear(2, 2))
    steps = (0, 1, 2, 3, 3, 4, 7, 8, 9)  # batches of no step, of one, and of several
    assert [step for step in steps if intervals.reaches(step, 3)] == [3, 7, 9]


def test_nothing_is_reached_without_a_length() -> None:
    intervals = Intervals(nn.Linear(2, 2))
    assert not any(intervals.reaches(step, 0) for step in range(5))


def test_a_run_goes_on_from_its_step() -> None:
    intervals = Intervals(nn.Linear(2, 2), step=5)
    assert [step for step in range(6, 11) if intervals.reaches(step, 4)] == [8]


def test_what_a_checkpoint_has_reached() -> None:
    """One of fmstats 0.1 does not say; then it is the step at which training goes on."""
    model = nn.Linear(2, 2)
    saved = Intervals(model)
    assert not saved.reaches(2, 3)
    state = saved.state()
    resumed = Intervals(model, step=3)
    resumed.restore(state)
    assert resumed.reaches(3, 3)
    del state["reached"]
    resumed = Intervals(model, step=3)
    resumed.restore(state)
    assert not resumed.reaches(3, 3)
    assert resumed.reaches(6, 3)


def test_batches_after_the_last_step_are_in_no_interval() -> None:
    model = nn.Linear(2, 2)
    intervals = Intervals(model)
    assert intervals.finish(0) is None
    assert intervals.profile is None
    run_batch(intervals, model)
    last = intervals.finish(1)
    assert last is not None
    assert last is intervals.last
    assert intervals.finish(1) is None
    assert intervals.profile is not None
    assert intervals.profile["(model)"].count[0] == 4
    run_batch(intervals, model)
    assert intervals.finish(1) is None
    assert intervals.last is last
    assert intervals.profile["(model)"].count[0] == 8
    assert intervals.profile.metadata["steps"] == [1, 1]
    assert intervals.is_empty
