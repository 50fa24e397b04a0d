"""Compiled graphs measure what eager runs of the same tracked model measure, whatever is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.utils.checkpoint import checkpoint

import fmstats
from fmstats import Profile, Tracker

dynamo = pytest.importorskip("torch._dynamo")
pytestmark = pytest.mark.usefixtures("fresh_graphs")

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
Steps = Callable[[Any, Tracker], None]
INFO = ("type", "layer", "call", "calls", "shape", "dtype", "dims", "backend")


class Net(nn.Module):
    """Layers whose numbers no compiler changes, one of them called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.pool, self.flat = nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        self.last = nn.Hardtanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.flat(self.pool(self.act(self.act(x) - 0.5))))


def measure(steps: Steps, compiler: str | None, make: Callable[[], nn.Module], **how: Any) -> Any:
    """Run steps with a tracked model; return its tracker."""
    model = make()
    tracker = fmstats.track(model)
    network = model if compiler is None else torch.compile(model, backend=compiler, **how)
    steps(network, tracker)
    return tracker


def assert_same(compiled: Profile, eager: Profile) -> None:
    assert list(compiled) == list(eager)
    for name, want in eager.items():
        got = compiled[name]
        assert torch.equal(got.state.words, want.state.words), name
        for field in INFO:
            told = getattr(compiled.info[name], field)
            assert told == getattr(eager.info[name], field), (name, field)
    for key in ("passes", "passes_measured"):
        assert compiled.metadata[key] == eager.metadata[key]


def check(
    steps: Steps, make: Callable[[], nn.Module] = Net, compiler: str = "aot_eager", **how: Any
) -> Tracker:
    eager = measure(steps, None, make)
    compiled: Tracker = measure(steps, compiler, make, **how)
    assert_same(compiled.stats(), eager.stats())
    return compiled


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_restored_after_graphs_were_made(compiler: str) -> None:
    def steps(network: Any, tracker: Tracker) -> None:
        network(X)
        saved = tracker.stats()
        network(2 * X)
        tracker.reset()
        tracker.restore(saved)
        network(X)
        network(3 * X)

    check(steps, compiler=compiler)


def test_rows_that_make_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs go on measuring into a row, so it stays where others go once they are empty."""
    monkeypatch.setattr("fmstats.tracking.row_set.MOST_WIDTHS", 2)

    def run(network: Any) -> None:
        for width in (1, 2):
            network(torch.ones(2, width, 4))

    model = nn.Sequential(nn.ReLU())
    tracker = fmstats.track(model, channel_dim=1)
    network = torch.compile(model, backend="eager", dynamic=False)
    run(network)
    tracker.reset()
    network(torch.ones(2, 3, 4))
    run(network)
    stats = tracker.stats()
    assert {name: stats.info[name].calls for name in stats} == {"0@1": 1, "0@2": 1}
    (row,) = tracker.coverage()
    assert row.status == "in part"
    assert "1 tensor without a row" in str(row.reason)


class Around(nn.Module):
    """A model within another one, so that the hooks of its passes are in the graph."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_two_trackers_in_one_graph(compiler: str) -> None:
    """Each has a time of its own, and changes no clock of the other."""

    def run(compiled: bool) -> list[Profile]:
        torch.compiler.reset()
        model = Net()
        trackers = [fmstats.track(model, **how) for how in ({}, {"of": "input", "every": 2})]
        network: Any = Around(model)
        if compiled:
            network = torch.compile(network, backend=compiler, fullgraph=True)
        for step in range(4):
            trackers[0].step = step
            network(X / (step - 2))
        return [tracker.stats() for tracker in trackers]

    for compiled, eager in zip(run(True), run(False), strict=True):
        assert_same(compiled, eager)


class Scale:
    """A hook of the user's, which a graph looks at as it looks at those of a tracker."""

    factor = 2.0

    def __call__(self, module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (args[0] * self.factor,)


def test_a_hook_of_the_model_itself() -> None:
    """The tracker's is called before it. Versions of Dynamo number hooks as they are stored."""
    model = Net()
    model.register_forward_pre_hook(Scale())
    with fmstats.track(model) as tracker:
        assert list(dict.keys(model._forward_pre_hooks)) == list(model._forward_pre_hooks)
        network = torch.compile(Around(model), backend="eager", fullgraph=True)
        for _ in range(2):
            network(X)
    calls = {row.name: row.calls for row in tracker.coverage()}
    assert calls == {"act": 4, "pool": 2, "flat": 2, "last": 2}


class Checkpointed(nn.Module):
    """A layer that is called within a checkpoint and outside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.once = nn.ReLU(), nn.Hardtanh()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.once(x) - 0.25)
        x = checkpoint(lambda x: self.act(x - 0.5), x, use_reentrant=False)
        return self.act(x - 0.75)


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_a_layer_within_a_checkpoint_and_outside(compiler: str) -> None:
    """The graph may measure into a copy of the row, and would lose what hooks do beside it."""

    def steps(network: Any, tracker: Tracker) -> None:
        for factor in (1, 2, 3):
            network((factor * X).requires_grad_()).sum().backward()

    tracker = check(steps, Checkpointed, compiler)
    why = "in compiled graphs measured by Python within a graph of its own, as of a checkpoint"
    assert {row.name: row.reason for row in tracker.coverage()}["act"] == why


@pytest.mark.parametrize(
    "function", [lambda x: x.argmax(1), lambda x: x[:, :0], lambda x: x.sum(), lambda x: x[:0]]
)
def test_why_nothing_was_measured(function: Callable[[Tensor], Tensor]) -> None:
    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    def make() -> nn.Module:
        return nn.Sequential(nn.ReLU(), Last())

    def steps(network: Any, tracker: Tracker) -> None:
        network(X)

    eager, compiled = (measure(steps, compiler, make) for compiler in (None, "eager"))
    assert list(compiled.coverage()) == list(eager.coverage())
    assert {row.status for row in compiled.coverage()} == {"tracked", "skipped"}


class Sizes(nn.Module):
    """A layer whose width is a size that changes, before one whose width does not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.flat, self.last = nn.ReLU(), nn.Flatten(), nn.Hardtanh()

    def forward(self, x: Tensor) -> Tensor:
        y = self.flat(self.first(x))
        return self.last(y[:, :5])


def test_the_order_of_rows_that_python_measures() -> None:
    """A row that Python begins when the graph runs was called before the graph's last ones."""

    def steps(network: Any, tracker: Tracker) -> None:
        network(X)

    tracker = check(steps, Sizes, "eager", dynamic=True)
    reasons = {row.name: row.reason for row in tracker.coverage()}
    assert "for a number of channels that changes" in str(reasons["flat"])


def test_the_shape_of_what_graphs_have_measured_since_a_reset() -> None:
    """It is that of the last tensor, not of the one that the graph was made with."""

    def steps(network: Any, tracker: Tracker) -> None:
        for batch in (X, torch.cat([X, X]), X[:1].repeat(5, 1, 1, 1)):
            network(batch)
        tracker.reset()
        network(batch)

    check(steps)


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
@pytest.mark.parametrize("transform", [vmap, lambda model: vmap(grad(lambda x: model(x).sum()))])
def test_vmap_within_a_graph(transform: Any, compiler: str) -> None:
    """It does what it does without a tracker, and coverage tells why it is not measured."""
    model = nn.Sequential(nn.ReLU(), nn.Hardtanh())
    want = transform(model)(X)
    tracker = fmstats.track(model)
    network = torch.compile(lambda x: transform(model)(x), backend=compiler)
    for _ in range(2):
        assert torch.equal(network(X), want)
    for row in tracker.coverage():
        assert row.status == "skipped"
        assert "inside a function transform" in str(row.reason)


class Branches(nn.Module):
    """A layer in each branch of a condition, and one behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        chosen = torch.cond(
            x.sum() > 0, lambda x: self.one(x) + 0, lambda x: self.other(x) + 0, (x,)
        )
        return self.act(chosen)


@pytest.mark.parametrize("compiler", ["eager", "aot_eager", "inductor"])
def test_branches_are_left_alone(compiler: str) -> None:
    """Torch refuses to compile branches that change anything: the model would not run."""
    model = Branches().eval()
    with fmstats.track(model, functional=False) as tracker, torch.no_grad():
        network = torch.compile(model, backend=compiler, fullgraph=True)
        for _ in range(2):
            network(torch.ones(2, 4))
    one, other, act = tracker.coverage()
    assert (act.status, act.calls) == ("tracked", 2)
    assert one.status == other.status == "skipped"
    assert "within a branch or a loop" in str(one.reason)
