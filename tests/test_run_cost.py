"""How much of a run its statistics take, and the bar that shows it."""

from __future__ import annotations

import functools
import re
import sys

import pytest
import torch
from test_run_progress import Terminal
from torch import nn

from fmstats.runs import profile
from fmstats.runs.cost import Cost
from fmstats.tracking.layers import Layer
from fmstats.tracking.sampling import Timed
from fmstats.tracking.track import track


class Clock:
    """A clock that advances only where a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


clock = Clock()


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    """Each update takes 10 ms, as each slow layer does."""
    clock.now = 0.0
    for module in ("runs.cost", "tracking.sampling", "tracking.pass_hooks"):
        monkeypatch.setattr(f"fmstats.{module}.clock", clock)
    update = Layer.update

    def slow(self, output):
        clock.now += 0.01
        update(self, output)

    monkeypatch.setattr(Layer, "update", slow)


class Slow(nn.Module):
    def forward(self, x):
        clock.now += 0.01
        return x + 0


def run(count, **options):
    model = nn.Sequential(Slow(), Slow(), nn.Identity())
    return profile(model, [(torch.zeros(2, 3), torch.zeros(2))] * count, **options)


@pytest.mark.parametrize("of", ["output", "input"])
def test_share_of_the_time(of):
    # 3 folds of 10 ms beside 2 layers of 10 ms.
    assert run(4, of=of).metadata["statistics_share"] == pytest.approx(0.6)


def test_passes_that_are_not_measured_are_in_the_time():
    # Of 3 passes one has folds: 30 ms of 90.
    assert run(9, every=3).metadata["statistics_share"] == pytest.approx(30 / 90)


def test_reading_is_in_the_time():
    class Source:
        def __iter__(self):
            for _ in range(4):
                clock.now += 0.05
                yield torch.zeros(2, 3)

    model = nn.Sequential(Slow(), Slow(), nn.Identity())
    share = profile(model, Source()).metadata["statistics_share"]
    assert share == pytest.approx(30 / 100)


def test_with_a_budget_it_is_what_the_budget_says():
    metadata = run(20, budget=0.1).metadata
    spent = metadata["budget_spent"]
    assert metadata["statistics_share"] == pytest.approx(spent / (1 + spent))
    assert metadata["passes_measured"] < metadata["passes"] == 20


def test_other_hooks_are_not_statistics():
    model = nn.Sequential(Slow(), Slow())

    def other(*_):
        clock.now += 0.03

    model[0].register_forward_hook(other)
    share = profile(model, [torch.zeros(2, 3)] * 3).metadata["statistics_share"]
    assert share == pytest.approx(20 / 70)


def test_some_passes_are_timed_and_no_timer_stays():
    tracker = track(nn.Sequential(nn.ReLU(), nn.ReLU()), every=2)
    cost, layers = Cost(tracker.hooks, 2, 0), [hook.layer for hook in tracker.hooks]
    timed = []
    for _ in range(70):
        with cost.batch():
            timed.append([isinstance(hook.layer, Timed) for hook in tracker.hooks])
        assert [hook.layer for hook in tracker.hooks] == layers
    assert [n for n, yes in enumerate(timed) if all(yes)] == [0, 1, 2, 3, 32, 33, 64, 65]
    assert sum(map(any, timed)) == 8


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("begun", range(4))
def test_the_share_is_that_of_timed_cycles_but_the_first(every, begun):
    """Each pass takes other times, so that each counts."""
    model = nn.Sequential(Slow(), nn.Identity())
    tracker = track(model)
    cost, spent, whole = Cost(tracker.hooks, every, begun), 0.0, 0.0
    assert cost.share is None
    for number in range(begun % every, 51):
        cycle = number // every
        clock.now += 0.001 * number  # reading
        with cost.batch():
            model(torch.zeros(2, 3))
            clock.now += 0.002 * number
        if cycle == 1 and number % every == 0:
            spent = whole = 0.0  # what warmed up is forgotten
        if cycle in (0, 1) or cycle % 16 == 0:
            spent, whole = spent + 0.02, whole + 0.03 + 0.003 * number
        assert cost.share == pytest.approx(spent / whole)


def test_a_pass_that_fails_leaves_no_timer():
    tracker = track(nn.Sequential(nn.ReLU()))
    layers = [hook.layer for hook in tracker.hooks]
    with pytest.raises(KeyboardInterrupt), Cost(tracker.hooks, 1, 0).batch():
        raise KeyboardInterrupt
    assert [hook.layer for hook in tracker.hooks] == layers


def test_compiled(monkeypatch):
    compile_ = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", lambda model: seen.append(1) or compile_(model))
    seen: list[int] = []
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    data = list(torch.randn(9, 3).split(4))
    got, want = profile(model, data, compile=True), profile(model, data)
    assert seen == [1]
    assert got.metadata["statistics_share"] is None
    assert got.metadata["options"]["compile"] is True
    for name in want:
        assert got[name].count.tolist() == want[name].count.tolist() == [9] * 4
        assert torch.allclose(torch.tensor(got[name].mean), torch.tensor(want[name].mean))


def test_a_compiled_part_is_not_timed():
    """Dynamo would trace the clock, and compile anew whenever hooks come and go."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    part = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    model = nn.Sequential(torch.compile(part, backend=backend, fullgraph=True))
    got = profile(model, [torch.randn(4, 3) for _ in range(5)])
    assert len(graphs) == 1
    assert got.metadata["statistics_share"] is None
    assert got["0.1"].count.tolist() == [20] * 4


def test_the_bar_tells_speed_and_share(monkeypatch):
    pytest.importorskip("rich", reason="needs rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr(sys, "stderr", Terminal())
    run(4)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", sys.stderr.getvalue())
    assert re.search(r"4/4 batches +[\d.,]+ samples/s, statistics 60 %", text)
