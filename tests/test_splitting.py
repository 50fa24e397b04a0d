"""`observe` is split into `partials`, which change nothing, and `fold`, which merges them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from partials import open_clock
from tolerances import assert_equal_states
from torch import Tensor, fx

from fmstats.backends.reference import ReferenceBackend
from fmstats.graph_ops.splitting import split_measurements
from fmstats.statistic.clock import Clock
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

OPS = torch.ops.fmstats
ACCURACY = (1e-12, 1e-9)
BOUNDS = (0.25, None, 1.0)
X = torch.tensor([-math.inf, math.nan, 0.25, 1.5, -0.5]).repeat(2, 32).view(2, 4, 40)


def always(x: Tensor | None, channel_dim: int, number: int) -> bool:
    return True


def split(
    function: Callable[..., Any], may_be: Callable[..., bool] = always, **values: Tensor
) -> fx.GraphModule:
    """The graph of a function, in which tensors have these values."""
    module = fx.symbolic_trace(function)
    for node in module.graph.nodes:
        node.meta["example_value"] = values.get(node.name, X)
    split_measurements(module, may_be)
    module.graph.lint()
    return module


def names_of(module: fx.GraphModule) -> list[str]:
    names = [str(node.target).split(".")[1:2] for node in module.graph.nodes]
    return [name[0] for name in names if name]


def wanted(*tensors: Tensor, dim: int = 1) -> State:
    state = State.identity(tensors[0].shape[dim])
    for x in tensors:
        time = Clock.in_words(open_clock().words)
        ReferenceBackend().accumulate(state, x, view_of(x, dim), Thresholds(*BOUNDS), time)
    return state


def check(state: State, *tensors: Tensor, dim: int = 1) -> None:
    assert_equal_states(state, wanted(*tensors, dim=dim), ACCURACY)
    assert int(state.memory[-1]) == len(tensors)  # type: ignore[index]


def test_all_tensors_of_a_pass_are_folded_at_once() -> None:
    def function(x: Any, state: Any, other: Any, clock: Any) -> Any:
        OPS.observe(x, state, clock, 5, 1, *BOUNDS)
        y = x * 2
        OPS.observe(y, other, clock, 6, 2, *BOUNDS)
        OPS.observe(y, state, clock, 5, 1, *BOUNDS)
        return y

    module = split(function)
    assert names_of(module) == ["partials", "partials", "partials", "fold"]
    states, clock = (State.identity(4), State.identity(40)), open_clock()
    y = module(X, *(state.memory for state in states), clock.words)
    assert torch.equal(y, X * 2) or y.isnan().any()
    check(states[0], X, X * 2)
    check(states[1], X * 2, dim=2)


def test_a_tensor_is_measured_before_it_is_changed() -> None:
    def function(x: Any, state: Any, clock: Any) -> Any:
        y = x * 1
        OPS.observe(y, state, clock, 5, 1, *BOUNDS)
        return y.relu_()

    state, clock = State.identity(4), open_clock()
    split(function)(X, state.memory, clock.words)
    check(state, X)


def test_each_tracker_has_its_own_clock() -> None:
    """One that is paused measures nothing, while the other one goes on."""

    def function(x: Any, state: Any, clock: Any, other: Any, paused: Any) -> Any:
        OPS.observe(x, state, clock, 5, 1, *BOUNDS)
        OPS.observe(x, other, paused, 6, 1, *BOUNDS)

    module = split(function)
    assert names_of(module) == ["partials", "partials", "fold", "fold"]
    clock, paused = open_clock(), open_clock()
    paused.set("enabled", 0)
    for clocks, counted in (((clock, paused), (1, 0)), ((paused, clock), (0, 1))):
        states = State.identity(4), State.identity(4)
        module(X, states[0].memory, clocks[0].words, states[1].memory, clocks[1].words)
        for state, count in zip(states, counted, strict=True):
            check(state, *[X] * count) if count else None
            assert int(state["count"].sum()) == count * X.numel()


def test_a_pass_is_folded_before_the_next_begins() -> None:
    """What begins a pass sets the clock: tensors of before are of the pass that was."""

    def function(x: Any, state: Any, clock: Any) -> Any:
        OPS.begin_pass_in_graph([clock], 1, False)
        OPS.observe(x, state, clock, 5, 1, *BOUNDS)
        OPS.begin_pass_in_graph([clock], 1, False)
        OPS.observe(x, state, clock, 5, 1, *BOUNDS)

    expected = ["begin_pass_in_graph", "partials", "fold"] * 2
    assert names_of(split(function)) == expected


def test_what_may_not_be_split_stays() -> None:
    def function(x: Any, state: Any, other: Any, clock: Any) -> Any:
        OPS.observe(x, state, clock, 5, 1, *BOUNDS)
        OPS.observe(x, other, clock, 6, -1, *BOUNDS)

    asked = []

    def may_be(x: Tensor | None, channel_dim: int, number: int) -> bool:
        asked.append((x is X, channel_dim, number))
        return number == 5

    assert names_of(split(function, may_be)) == ["partials", "observe", "fold"]
    assert asked == [(True, 1, 5), (True, -1, 6)]


def test_nothing_to_split() -> None:
    assert names_of(split(lambda x: x + 1)) == []


@pytest.mark.parametrize("bounds", [(0.0, None, None), BOUNDS, (0.0, -1.0, 1.0)])
@pytest.mark.parametrize("channel_dim", [-1, 0, 1, 2])
def test_partials_are_what_they_declare(
    channel_dim: int, bounds: tuple[float, float | None, float | None]
) -> None:
    torch.library.opcheck(OPS.partials.default, (X, channel_dim, *bounds, 5))
