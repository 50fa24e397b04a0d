"""Passes of compiled graphs begin natively: what is counted and measured is the same as eagerly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.backends.native import why_no_native
from fmstats.graph_ops.directly import functions
from fmstats.tracking.pass_hooks import PassHook

pytest.importorskip("torch._dynamo")
pytestmark = [
    pytest.mark.skipif(why_no_native() is not None, reason=str(why_no_native())),
    pytest.mark.usefixtures("fresh_graphs"),
]

X = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
WITH_NAN = X.clone().fill_(torch.nan)


class Around(nn.Module):
    """A model within another one, so that the hooks of its passes are in the graph."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


@pytest.fixture
def in_python(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each pass that began by Python was in training mode."""
    begun: list[bool] = []
    observe = PassHook.observe

    def note(hook: PassHook, x: Tensor | None, training: bool) -> None:
        begun.append(training)
        observe(hook, x, training)

    monkeypatch.setattr(PassHook, "observe", note)
    return begun


def play(compiled: bool, steps: str, **options: Any) -> tuple[Any, ...]:
    """Run steps, a letter each; return all that was counted."""
    around = Around()
    tracker = fmstats.track(around.model, **options)
    network: Any = torch.compile(around, fullgraph=True) if compiled else around
    counts = []
    with torch.no_grad():
        for step in steps:
            if step in ".n":
                network(X if step == "." else WITH_NAN)
            elif step in "te":
                around.train(step == "t")
            elif step == "s":
                tracker.step = len(counts)
            else:
                {"p": tracker.pause, "r": tracker.resume, "0": tracker.reset, "c": tracker.close}[
                    step
                ]()
            counts.append((*tracker._passes.counts, tracker._gate.open))
    stats = tracker.stats()
    firsts = [
        (s.count.tolist(), s.first_pass.tolist(), s.first_step.tolist()) for s in stats.values()
    ]
    return counts, firsts, stats.metadata["passes"], stats.metadata["passes_measured"]


@pytest.mark.parametrize("when", ["always", "train", "eval"])
@pytest.mark.parametrize("every", [1, 3])
def test_everything_counts_as_eagerly(every: int, when: str) -> None:
    steps = "e....t...ep..r.t....0..en...sn..tn..n.c..."
    options: dict[str, Any] = {"every": every, "when": when}
    assert play(True, steps, **options) == play(False, steps, **options)


@pytest.mark.parametrize(("every", "begun"), [(1, 1), (4, 6)])
def test_python_begins_passes_where_the_gate_changes(
    in_python: list[bool], every: int, begun: int
) -> None:
    play(True, "e" + "." * 10, every=every)
    assert len(in_python) == begun


@pytest.mark.parametrize("steps", ["p.....", "c....."])
def test_what_does_not_measure_begins_no_pass(in_python: list[bool], steps: str) -> None:
    play(True, "e.." + steps)
    assert len(in_python) == 1


@pytest.mark.parametrize(
    "options", [{"budget": 0.5}, {"on_nonfinite": "warn"}, {"per_call": True}], ids=str
)
def test_what_has_more_to_do_goes_to_python(in_python: list[bool], options: dict[str, Any]) -> None:
    play(True, "e.....", **options)
    assert len(in_python) == 5


def test_a_new_clock_is_set_by_python(in_python: list[bool]) -> None:
    around = Around().eval()
    tracker = fmstats.track(around.model)
    network = torch.compile(around, fullgraph=True)
    with torch.no_grad():
        for _ in range(3):
            network(X)
        assert len(in_python) == 1
        clocks = tracker._gate.clocks
        advanced = []
        clock = clocks.on(torch.device("meta"))
        clock.advance = advanced.append  # type: ignore[method-assign]
        network(X)
    assert advanced == ["first_pass"]
    assert clocks.passes == 4


@pytest.fixture
def begun() -> Iterator[tuple[fmstats.Tracker, Any]]:
    """A tracker whose graph ran twice, and what its graph calls then."""
    around = Around().eval()
    tracker = fmstats.track(around.model)
    with torch.no_grad():
        network = torch.compile(around, fullgraph=True)
        network(X)
        network(X)
    number = tracker._passes.number
    directly = functions.begin_pass_in_graph
    yield tracker, lambda training=False: directly([], number, training)
    tracker.close()


def test_passes_within_a_backward_pass_are_not_counted(begun: Any) -> None:
    tracker, begin = begun
    leaf = torch.ones(1, requires_grad=True)
    leaf.register_hook(lambda gradient: begin())
    leaf.sum().backward()  # type: ignore[no-untyped-call]
    assert tracker._passes.counts == (2, 2, 2)
    begin()
    assert tracker._passes.counts == (3, 3, 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_pass_that_is_traced_is_not_measured(begun: Any) -> None:
    tracker, begin = begun

    def traced(x: Tensor) -> Tensor:
        begin()
        return x * 2

    torch.jit.trace(  # type: ignore[no-untyped-call]
        traced, X, check_trace=False
    )
    assert tracker._passes.counts == (2, 2, 2)
    assert not tracker._gate.open
    begin()
    assert tracker._gate.open
    assert tracker._passes.counts == (3, 3, 3)


def test_what_is_no_call_is_refused_by_python(begun: Any) -> None:
    directly = functions.begin_pass_in_graph
    with pytest.raises(TypeError):
        directly()
    with pytest.raises(TypeError):
        directly([], 1, True, 4)
    directly([], "no number of any", False)
