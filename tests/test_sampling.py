"""Which passes are taken: every so many, and budgets."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

import fmstats
from fmstats import FmstatsError
from fmstats.tracking import sampling
from fmstats.tracking.budget import Budget
from fmstats.tracking.sampling import Every, Timed


def test_every() -> None:
    sampling = Every(3)
    assert [sampling.take() for _ in range(7)] == [True, False, False, True, False, False, True]
    sampling.reset()
    assert sampling.take()
    assert sampling.describe() == {"every": 3}
    sampling = Every(2)
    assert [sampling.take() for _ in range(5)] == [True, False, True, False, True]


def run_passes(budget: Budget, n: int, forward: float, cost: float) -> list[bool]:
    taken = []
    for _ in range(n):
        taken.append(budget.take())
        now = cost if taken[-1] else 0.0
        budget.spend(now)
        budget.end(forward + now)
    return taken


def test_a_budget_is_kept() -> None:
    """Hooks that cost 30 % of a pass, of which 5 % are to be spent: one pass in six."""
    budget = Budget(0.05)
    taken = run_passes(budget, 601, forward=1.0, cost=0.3)
    assert taken[:5] == [True, True, True, True, False]  # the first, and three to learn from
    assert sum(taken[4:22]) == 0  # until those are paid for, and one more
    assert sum(taken) == pytest.approx(1 + 100, abs=2)
    assert budget.describe() == {
        "budget": 0.05,
        "budget_spent": pytest.approx(0.05, rel=0.02),
        "every": pytest.approx(601 / sum(taken)),
    }
    assert budget.host.spent <= 0.05 * budget.host.forward + 1e-9
    assert budget.every_now() == 6


def test_passes_are_not_taken_at_equal_distances() -> None:
    """What comes back every so many passes would else be measured always, or never."""
    taken = run_passes(Budget(0.05), 2000, forward=1.0, cost=0.3)
    last = [number % 6 for number, each in enumerate(taken) if each][10:]
    shares = [last.count(place) / len(last) for place in range(6)]
    assert shares == pytest.approx([1 / 6] * 6, abs=0.04)


def test_a_budget_that_is_never_used_up() -> None:
    assert all(run_passes(Budget(0.5), 50, forward=1.0, cost=0.1))


def test_a_slow_first_pass_is_left_out() -> None:
    budget = Budget(0.1)
    assert run_passes(budget, 1, forward=1000.0, cost=500.0) == [True]
    assert budget.describe()["budget_spent"] == 0.5  # as long as there is no other
    assert all(run_passes(budget, 200, forward=1.0, cost=0.02))
    assert budget.describe()["budget_spent"] == pytest.approx(0.02)


def test_costs_that_change() -> None:
    budget = Budget(0.1)
    run_passes(budget, 50, forward=1.0, cost=0.05)
    run_passes(budget, 500, forward=1.0, cost=0.5)
    assert budget.host.spent <= 0.1 * budget.host.forward + 0.5
    assert budget.every_now() == 5


def test_one_slow_hook_does_not_stop_the_measuring() -> None:
    """It has cost as much as 1000 measured passes, and is paid for as 100 of them."""
    budget = Budget(0.05)
    run_passes(budget, 100, forward=1.0, cost=0.3)
    while not budget.take():
        budget.end(1.0)
    budget.spend(300.0)
    budget.end(301.0)
    taken = run_passes(budget, 900, forward=1.0, cost=0.3)
    assert not any(taken[:570])
    assert sum(taken) == pytest.approx((900 - 600) / 6, abs=2)
    assert budget.describe()["budget_spent"] > 0.25  # it is told


def test_long_passes_pay_for_more() -> None:
    budget, taken = Budget(0.05), 0
    for number in range(1000):
        taken += sum(run_passes(budget, 1, forward=10.0 if number % 10 == 0 else 1.0, cost=0.5))
    assert taken == pytest.approx(0.05 * 1900 / 0.5, rel=0.1)
    assert budget.describe()["budget_spent"] == pytest.approx(0.05, rel=0.1)


def test_a_reset_budget_begins_anew() -> None:
    budget = Budget(0.1)
    run_passes(budget, 20, forward=1.0, cost=1.0)
    budget.reset()
    assert budget.describe() == {"budget": 0.1, "budget_spent": 0.0, "every": 1.0}
    assert run_passes(budget, 30, forward=1.0, cost=1.0)[:10] == [True] + [False] * 9


def test_time_is_put_down_to_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr(sampling, "clock", lambda: float(next(ticks)))

    class Layer:
        def update(self, output: object) -> None:
            if output is None:
                raise ValueError("no output")

        def skip(self, reason: str) -> None:
            raise AssertionError

    budget = Budget(0.5)
    layer = Timed(Layer(), budget.spend)
    run_passes(budget, 4, forward=0.0, cost=0.0)
    budget.take()
    layer.update(1)
    with pytest.raises(ValueError, match="no output"):
        layer.update(None)
    budget.end(10.0)
    assert (budget.host.spent, budget.host.forward) == (2.0, 8.0)


def test_what_is_not_folding_is_passed_on() -> None:
    told: list[object] = []

    class Layer:
        def update(self, output: object) -> None:
            told.append(output)

        def skip(self, reason: str) -> None:
            told.append(reason)

        def fail(self, error: Exception) -> None:
            told.append(error)

        def rescale(self, scale: float) -> None:
            told.append(scale)

        def claim(self) -> Layer:
            return Layer()

    budget, error = Budget(0.5), ValueError("broken")
    layer = Timed(Layer(), budget.spend)
    run_passes(budget, 4, forward=1.0, cost=0.0)
    budget.take()
    layer.skip("is empty")
    layer.fail(error)
    layer.rescale(2.0)
    assert told == ["is empty", error, 2.0]
    budget.end(1.0)
    assert budget.host.spent == 0.0
    budget.take()
    layer.claim().update(7)  # of one call, which costs time as well
    budget.end(1.0)
    assert told[3:] == [7]
    assert budget.host.spent > 0.0


def test_tracking_under_a_budget() -> None:
    model = nn.Sequential(*[m for _ in range(8) for m in (nn.Linear(8, 8), nn.ReLU())])
    with fmstats.track(model, budget=0.01) as tracker, torch.inference_mode():
        for _ in range(300):
            model(torch.ones(2, 8))
    metadata = tracker.stats().metadata
    assert metadata["passes"] == 300
    assert 1 <= metadata["passes_measured"] < 300
    assert metadata["every"] == pytest.approx(300 / metadata["passes_measured"])
    assert metadata["budget"] == 0.01
    assert tracker.stats()["0"].count.tolist() == [2 * metadata["passes_measured"]] * 8


def test_a_pass_that_raises_does_not_stop_the_clock() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with fmstats.track(model, budget=0.5) as tracker:
        with pytest.raises(RuntimeError):
            model(torch.ones(1, 3))
        model(torch.ones(1, 2))
    assert tracker.stats().metadata["passes"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, r"^budget=0: give a share of the forward time"),
        ({"budget": 1.5}, r"^budget=1\.5: give a share"),
        ({"budget": "a lot"}, r"^budget='a lot': give a share"),
        ({"budget": 0.1, "every": 2}, r"^every=2 and budget=0\.1: give one of them$"),
        ({"when": "never"}, r"^when='never': choose 'always' or 'train' or 'eval'$"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(FmstatsError, match=message):
        fmstats.track(nn.ReLU(), **options)  # type: ignore[arg-type]


def test_threads_share_a_budget() -> None:
    """Each thread's pass begins and ends for itself, whatever the others do."""
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    x = torch.randn(4, 8)
    with torch.no_grad():
        want = model(x)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with torch.no_grad():
                for _ in range(150):
                    assert torch.equal(model(x), want)
        except BaseException as error:
            failures.append(error)

    with fmstats.track(model, budget=0.2) as tracker:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert tracker.stats().metadata["passes"] == 600


def test_passes_that_overlap_end_for_themselves() -> None:
    """One thread is within its pass while another one begins and ends its own."""
    inside, go_on = threading.Event(), threading.Event()

    class Waiting(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if threading.current_thread() is slow:
                inside.set()
                assert go_on.wait(60)
            return x

    model, failures = nn.Sequential(Waiting()), []

    def work() -> None:
        try:
            model(torch.ones(2, 3))
        except BaseException as error:
            failures.append(error)

    slow = threading.Thread(target=work)
    with fmstats.track(model, budget=0.5) as tracker:
        slow.start()
        assert inside.wait(60)
        model(torch.ones(2, 3))
        go_on.set()
        slow.join()
    assert failures == []
    assert tracker.stats().metadata["passes"] == 2


def test_what_threads_spend_is_added_up() -> None:
    budget = Budget(0.5)
    run_passes(budget, 4, forward=0.0, cost=0.0)

    def work(end: bool) -> None:
        budget.take()
        budget.spend(0.25)
        if end:
            budget.end(2.25)

    for end, told in ((False, (0.0, 1.0)), (True, (0.25, 4.0))):
        thread = threading.Thread(target=work, args=(end,))
        budget.take()
        thread.start()
        thread.join()
        budget.end(1.0)  # of this thread, which has spent nothing
        assert (budget.host.spent, budget.host.forward) == told
