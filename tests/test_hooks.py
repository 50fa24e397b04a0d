"""Hooks: a copy of a tracked model is not tracked, and none outlives its tracker."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import itertools
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.tracking.gates import Gate
from fmstats.tracking.hooks import InputHook, OutputHook, timed
from fmstats.tracking.pass_hooks import EndHook, PassHook
from fmstats.tracking.sampling import Every


def hooks_on(model: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for m in model.modules()
    )


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))


def saved_and_loaded(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("of", ["output", "input"])
@pytest.mark.parametrize("per_call", [False, True])
@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), saved_and_loaded],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_a_copy_is_not_tracked(
    duplicate: Callable[[nn.Module], nn.Module], of: str, per_call: bool
) -> None:
    model, x = net(), torch.randn(2, 3, 8, 8)
    with fmstats.track(model, of=of, per_call=per_call) as tracker:
        model(x)
        before = tracker.stats()
        twin = duplicate(model)
        twin(x + 100)
        after = tracker.stats()
        assert after.to_dict() == before.to_dict()
        with fmstats.track(twin) as other:
            twin(x)
        assert other.stats()["0"].count.tolist() == [72] * 4
        model(x)
        assert tracker.stats().metadata["passes"] == 2
    assert torch.equal(twin.eval()(x), twin(x))


def test_weights_of_a_tracked_model_are_the_plain_ones() -> None:
    model = net()
    plain = list(model.state_dict())
    with fmstats.track(model):
        assert list(model.state_dict()) == plain
        net().load_state_dict(model.state_dict())


def test_a_dropped_tracker_removes_its_hooks() -> None:
    model, x = net(), torch.randn(2, 3, 8, 8)
    gc.collect()
    gc.disable()  # dropping it is enough: it is in no cycle
    try:
        tracker = fmstats.track(model)
        model(x)
        tracker.stats()
        assert hooks_on(model) == 4
        gone = weakref.ref(tracker)
        del tracker
        assert gone() is None
        assert hooks_on(model) == 0
    finally:
        gc.enable()


def test_a_notebook_cell_run_again_does_not_stack_hooks() -> None:
    model = net()
    for _ in range(5):
        tracker = fmstats.track(model)
        assert hooks_on(model) == 4
        model(torch.randn(2, 3, 8, 8))
        assert tracker.stats().metadata["passes"] == 1


def test_a_dropped_model_is_freed() -> None:
    model = net()
    tracker = fmstats.track(model)
    model(torch.randn(2, 3, 8, 8))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert tracker.stats()["0"].count.tolist() == [72] * 4
    tracker.close()


def test_an_unbound_context_keeps_its_hooks_until_its_end() -> None:
    model = net()
    with fmstats.track(model):
        gc.collect()
        assert hooks_on(model) == 4
    assert hooks_on(model) == 0


class Broken(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyError("broken")


def test_an_exception_in_the_model_leaves_no_hook() -> None:
    model = nn.Sequential(nn.ReLU(), Broken())
    with pytest.raises(KeyError, match="broken"), fmstats.track(model) as tracker:
        model(torch.ones(2, 3))
    assert hooks_on(model) == 0
    assert tracker.stats()["0"].count.tolist() == [2, 2, 2]


def test_a_refused_request_leaves_no_hook() -> None:
    model = net()
    for options in ({"channel_dim": "x"}, {"zero_tol": -1}, {"include": "no"}, {"of": "x"}):
        with pytest.raises(FmstatsError):
            fmstats.track(model, **options)  # type: ignore[arg-type]
    assert hooks_on(model) == 0


def test_hooks_of_others_stay() -> None:
    model, seen = net(), []
    model[0].register_forward_hook(lambda *_: seen.append("user"))
    with fmstats.track(model):
        model(torch.randn(2, 3, 8, 8))
    model(torch.randn(2, 3, 8, 8))
    assert seen == ["user", "user"]
    assert hooks_on(model) == 1


class Sink:
    """In place of a layer."""

    def __init__(self) -> None:
        self.folded: list[object] = []

    def update(self, output: object) -> None:
        self.folded.append(output)

    def skip(self, reason: str) -> None:
        raise AssertionError(reason)


def test_closed_gates_fold_nothing() -> None:
    sink, gate = Sink(), Gate()
    output, inputs = (kind(sink, gate) for kind in (OutputHook, InputHook))
    model = nn.ReLU()
    for paused in (False, True):
        gate.set(paused=paused)
        assert output(model, (1,), 2) is None  # type: ignore[func-returns-value]
        assert inputs(model, (3,), {"k": 4}) is None  # type: ignore[func-returns-value]
    assert sink.folded == [2, ((3,), {"k": 4})]


def test_in_a_graph_a_hook_does_the_same() -> None:
    sink, gate, x, flown = Sink(), Gate(), torch.ones(2), []
    for kind in (OutputHook, InputHook):
        hook = kind(sink, gate)
        hook.observe(x, False)
        assert sink.folded.pop() is x
        gate.set(paused=True)
        hook.observe(x, False)
        gate.set(paused=False)
        leaf = torch.ones(1, requires_grad=True)
        leaf.register_hook(lambda gradient, hook=hook: flown.append(hook.observe(x, False)))
        leaf.sum().backward()  # here forward passes are those of checkpointing
    assert len(flown) == 2
    assert sink.folded == []


@pytest.mark.parametrize("fails", [False, True])
def test_hooks_are_timed_within_a_context_alone(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    ticks = itertools.count()
    for module in ("sampling", "pass_hooks"):
        monkeypatch.setattr(f"fmstats.tracking.{module}.clock", lambda: float(next(ticks)))
    sinks, spent, model = [Sink(), Sink()], [], nn.ReLU()
    hooks = [OutputHook(sink, Gate()) for sink in sinks]
    with contextlib.suppress(ZeroDivisionError), timed(hooks, spent.append):
        for hook in hooks:
            hook(model, (), 1)
        assert spent == [1.0, 1.0]
        if fails:
            raise ZeroDivisionError
    assert [hook.layer for hook in hooks] == sinks
    for hook in hooks:
        hook(model, (), 2)
    assert spent == [1.0, 1.0]
    assert [sink.folded for sink in sinks] == [[1, 2]] * 2


class Noted(Every):
    """Takes every pass, and notes how long each took."""

    timed = True

    def __init__(self) -> None:
        super().__init__(1)
        self.took: list[float] = []

    def end(self, seconds: float) -> None:
        self.took.append(seconds)


@pytest.mark.parametrize("in_graph", [False, True])
def test_a_pass_takes_from_its_beginning_to_its_end(
    monkeypatch: pytest.MonkeyPatch, in_graph: bool
) -> None:
    times = iter([1.0, 4.0, 10.0, 20.0, 21.0])
    monkeypatch.setattr("fmstats.tracking.pass_hooks.clock", lambda: next(times))
    sampling, model = Noted(), nn.ReLU()
    begin = PassHook(Gate(), sampling, [])
    end = EndHook(begin)

    def call(hook: PassHook | EndHook) -> None:
        if in_graph:
            hook.observe(None, False)
        elif isinstance(hook, EndHook):
            hook(model, (), None)
        else:
            hook(model, ())

    call(end)  # of no pass
    assert sampling.took == []
    for hook in (begin, end, end):  # it ends once
        call(hook)
    assert sampling.took == [3.0]
    for hook in (begin, begin, end):  # the first was broken off
        call(hook)
    assert sampling.took == [3.0, 1.0]
    assert (begin.passes, begin.measured) == (3, 3)


def test_passes_are_sampled() -> None:
    gate = Gate()
    hook, model = PassHook(gate, Every(3), []), nn.ReLU()
    taken = []
    for _ in range(7):
        hook(model, ())
        taken.append(gate.open)
    assert taken == [True, False, False, True, False, False, True]
    assert (hook.passes, hook.measured) == (7, 3)
    hook(model, ())
    assert not gate.open
    hook.reset()
    assert (hook.passes, hook.measured, gate.open) == (0, 0, True)
    hook(model, ())
    assert gate.open


def test_a_closed_gate_counts_no_passes() -> None:
    """Graphs go on calling the hooks of a closed tracker."""
    gate = Gate()
    hook, model = PassHook(gate, Every(1), []), nn.ReLU()
    hook(model, ())
    gate.set(closed=True)
    hook(model, ())
    assert (hook.passes, hook.measured) == (1, 1)
