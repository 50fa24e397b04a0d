"""What a batch did to a tracker is taken back, to the bit, whatever it had reached."""

from __future__ import annotations

import pytest
import torch
from stub_device import Machine, Run
from torch import nn

import fmstats
from fmstats.runs.undo import Undo
from fmstats.tracking.budget import Budget

X = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Its second layer is called from a switch on."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.both = nn.Linear(4, 3), nn.Linear(3, 2), True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.second(x) if self.both else x


def seen(tracker: fmstats.Tracker) -> dict[str, object]:
    profile = tracker.stats()
    told: dict[str, object] = {
        name: (row.stats.state.words.tolist(), row.calls, row.shape, row.dtype, row.channel_dim)
        for name, row in profile.info.items()
    }
    known = {"passes": None, "passes_measured": None, "budget_spent": None}
    return told | {key: profile.metadata.get(key) for key in known}


def numbers(budget: Budget) -> list[object]:
    """Everything that a budget knows."""
    allowances = (budget.first, budget.host, *budget.devices.values())
    changing = {key: value for key, value in vars(budget).items() if isinstance(value, int)}
    return [changing, *(dict(vars(each)) for each in allowances)]


@pytest.mark.parametrize("options", [{}, {"every": 2}, {"per_call": True}], ids=str)
@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_all_is_as_it_was(options: dict[str, object], before: int, after: int) -> None:
    model = Net()
    with fmstats.track(model, **options) as tracker, torch.no_grad():
        undo = Undo(tracker)
        for _ in range(before):
            model(X[0])
        then = seen(tracker)
        undo.remember()
        for _ in range(after):
            model(X[1])
        undo.take_back()
        assert seen(tracker) == then
        model(X[2])
        went_on = seen(tracker)
    other = Net()
    with fmstats.track(other, **options) as tracker, torch.no_grad():
        for _ in range(before):
            other(X[0])
        other(X[2])
        assert seen(tracker) == went_on


def test_a_layer_that_the_batch_reached_first_is_empty_again() -> None:
    model = Net()
    with fmstats.track(model) as tracker, torch.no_grad():
        undo = Undo(tracker)
        model.both = False
        model(X[0])
        undo.remember()
        model.both = True
        model(X[1])
        undo.take_back()
        assert list(tracker.stats()) == ["first"]
        assert tracker.stats()["first"].count.tolist() == [8] * 3
        undo.remember()  # with both layers
        model(X[1])
        undo.take_back()
        assert list(tracker.stats()) == ["first"]
        model(X[2])
        assert tracker.stats()["second"].count.tolist() == [8] * 2


def test_what_was_there_when_it_was_made_stays() -> None:
    model = Net()
    with fmstats.track(model) as tracker, torch.no_grad():
        undo = Undo(tracker)
        then = seen(tracker)
        model(X[0])
        undo.take_back()
        assert seen(tracker) == then
        model(X[0])
        undo = Undo(tracker)
        then = seen(tracker)
        model(X[1])
        undo.take_back()
        assert seen(tracker) == then


def test_each_batch_is_remembered_anew() -> None:
    model = Net()
    with fmstats.track(model) as tracker, torch.no_grad():
        undo = Undo(tracker)
        for n in range(1, 4):
            undo.remember()
            model(X[0])
            assert tracker.stats()["first"].count.tolist() == [8 * n] * 3
        then = 8 * 2
        model(X[1])
        undo.take_back()
        assert tracker.stats()["first"].count.tolist() == [then] * 3
        assert tracker.stats().metadata["passes"] == 2


def test_a_budget_goes_on_from_where_it_was() -> None:
    model = Net()
    with fmstats.track(model, budget=0.5) as tracker, torch.no_grad():
        undo = Undo(tracker)
        for _ in range(5):
            model(X[0])
        undo.remember()
        sampling = tracker.pass_hook.sampling
        assert isinstance(sampling, Budget)
        before = numbers(sampling)
        for _ in range(2):  # without another look in between
            for _ in range(5):
                model(X[1])
            assert numbers(sampling) != before
            undo.take_back()
            assert tracker.pass_hook.sampling is sampling
            assert numbers(sampling) == before
            assert tracker.pass_hook.passes == 5


def test_what_is_known_of_a_gpu_goes_on_from_where_it_was() -> None:
    run = Run(0.05, Machine(5.0), (0.2, 1.0), (0.02, 0.3))
    run.go(100)
    before, remembered = numbers(run.budget), run.budget.remember()
    for _ in range(2):
        run.go(50)
        assert numbers(run.budget) != before
        run.budget.go_back(remembered)
        assert numbers(run.budget) == before
    run.go(500)
    assert run.budget.every_now() == 6
