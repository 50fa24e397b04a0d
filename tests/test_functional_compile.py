"""Functional operations and taps in the graphs that torch.compile makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch._dynamo as dynamo
import torch.nn.functional as F
from torch import Tensor, nn

import fmstats
from fmstats import Profile


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = fmstats.tap(F.relu(self.first(x)), "hidden")
        return torch.relu(self.second(y) + x)


class Net(nn.Module):
    """Patches with attention, as wide as the batch; two calls of one operation."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.drop = nn.Conv2d(3, 8, 4, 4), nn.Dropout(0.0)
        self.qkv, self.blocks = nn.Linear(8, 24), nn.Sequential(Block(8), Block(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.patch(x).flatten(2).transpose(1, 2))
        heads = [t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1)]
        x = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        for block in self.blocks:
            x = block(x)
        low = torch.tanh(x)
        return torch.cat([low, torch.tanh(-x)], dim=-1)


ROWS = {
    "(model)/scaled_dot_product_attention": 1,  # the heads
    **{f"blocks.{i}/{name}": 2 for i in (0, 1) for name in ("relu", "hidden", "add", "relu_1")},
    **{f"(model)/{name}": 2 for name in ("tanh", "tanh_1", "cat")},
}
X = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    dynamo.reset()
    yield
    dynamo.reset()


def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def eager() -> Profile:
    model = net()
    with fmstats.track(model) as tracker, torch.no_grad():
        model(X)
        model(X)
    return tracker.stats()


def assert_as_eager(got: Profile) -> None:
    want = eager()
    assert set(got) == set(want)
    for name, row in want.info.items():
        found = got.info[name]
        assert (found.type, found.channel_dim, found.calls) == (row.type, row.channel_dim, 2), name
        assert found.stats.count.tolist() == row.stats.count.tolist()
        assert found.stats.mean.tolist() == pytest.approx(row.stats.mean.tolist(), abs=1e-5)


@pytest.mark.parametrize("compiler", ["eager", "aot_eager", "inductor"])
@pytest.mark.parametrize("tracked_first", [True, False])
def test_graphs_measure_what_eager_mode_does(compiler: str, tracked_first: bool) -> None:
    model = net()
    compiled: Any = torch.compile(model, backend=compiler, fullgraph=True)
    with torch.no_grad():
        if not tracked_first:
            compiled(X)
        with fmstats.track(compiled) as tracker:
            compiled(X)
            compiled(X)
        compiled(X)
    assert_as_eager(tracker.stats())
    dims = {n: row.channel_dim for n, row in tracker.stats().info.items() if "/" in n}
    assert dims == ROWS
    assert tracker.stats().info["drop"].channel_dim == 2
    assert not any(row.status == "unseen" for row in tracker.coverage())


def test_outputs_and_gradients_are_those_of_the_bare_graph() -> None:
    def run(tracked: bool) -> list[Tensor]:
        dynamo.reset()
        model = net().train()
        compiled: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
        tracker = fmstats.track(model) if tracked else None
        out = compiled(X)
        out.sum().backward()
        if tracker is not None:
            assert tracker.stats().info["blocks.1/add"].calls == 1
            tracker.close()
        return [out, *(p.grad for p in model.parameters() if p.grad is not None)]

    for a, b in zip(run(False), run(True), strict=True):
        assert torch.equal(a, b)


def test_pausing_compiles_nothing_anew() -> None:
    model = net()
    compiled: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
    with fmstats.track(compiled, every=2) as tracker, torch.no_grad():
        compiled(X)
        graphs = dynamo.utils.counters["stats"]["unique_graphs"]
        for _ in range(2):
            compiled(X)
        tracker.pause()
        compiled(X)
        tracker.resume()
        compiled(X)
        assert dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    assert tracker.stats().info["blocks.0/relu"].calls == 2


def test_a_compiled_part_in_a_model() -> None:
    """What runs in eager mode around it is not seen, and is told."""
    model = net()
    model.blocks[0] = torch.compile(model.blocks[0], backend="aot_eager", fullgraph=True)
    with fmstats.track(model) as tracker, torch.no_grad():
        model(X)
        model(X)
    rows = {name for name in tracker.stats() if "/" in name}
    # Not the sum with the input of the graph, of which nothing is known there.
    assert {name for name in rows if name.startswith("blocks.0/")} == {
        f"blocks.0/{name}" for name in ("relu", "hidden", "relu_1")
    }
    assert not any(name.startswith("(model)/") for name in rows)
    (unseen,) = [row for row in tracker.coverage() if row.status == "unseen"]
    assert unseen.name == "(model)"


def test_two_models_in_one_process_do_not_mix() -> None:
    one, other = net(), net()
    compiled: Any = torch.compile(one, backend="aot_eager", fullgraph=True)
    with fmstats.track(one) as first, fmstats.track(other) as second, torch.no_grad():
        compiled(X)
    assert set(ROWS) <= set(first.stats())
    assert not second.stats()


def test_several_trackers_and_calls() -> None:
    model = net()
    compiled: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
    with (
        fmstats.track(model, per_call=True) as calls,
        fmstats.track(model, functional=["relu"]) as some,
        fmstats.track(model, of="input") as inputs,
        torch.no_grad(),
    ):
        compiled(X)
    assert {f"{name}#0" for name in ROWS} <= set(calls.stats())
    assert {name for name in some.stats() if "/" in name and "hidden" not in name} == {
        name for name in ROWS if name.endswith("/relu") or name.endswith("/relu_1")
    }
    (row,) = [row for row in inputs.coverage() if row.name == "blocks.0/relu"]
    assert "not seen there" in (row.reason or "")


class OneLine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(torch.tanh(self.last(x)) + 1)


def test_two_calls_in_one_line_are_two_rows_where_graphs_know_the_column() -> None:
    """Those of torch below 2.13 know the line alone: both calls are in one row."""
    model = OneLine()
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    with fmstats.track(model) as tracker, torch.no_grad():
        compiled(torch.randn(2, 4))
    calls = {name: row.calls for name, row in tracker.stats().info.items() if "tanh" in name}
    columns = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 13)
    two = {"(model)/tanh": 1, "(model)/tanh_1": 1}
    assert calls == (two if columns else {"(model)/tanh": 2})


def test_untracked_graphs_hold_nothing_of_fmstats() -> None:
    graphs = []

    def backend(module: torch.fx.GraphModule, example: object) -> torch.fx.GraphModule:
        graphs.append(str(module.graph))
        return module

    model = net()
    compiled: Any = torch.compile(model, backend=backend, fullgraph=True)
    with torch.no_grad():
        compiled(X)
    assert graphs
    assert not any("fmstats" in graph for graph in graphs)


class Unpooling(nn.Module):
    """As SegNet, it keeps the indices of a pooling, and uses them later."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, indices = F.max_pool2d(self.conv(x), 2, return_indices=True)
        pooled = F.adaptive_max_pool2d(x, 1, return_indices=True)[0]
        return self.last(F.max_unpool2d(x, indices, 2)) + self.last(pooled)


@pytest.mark.parametrize("tracked_first", [True, False])
def test_an_operation_in_a_graph_may_return_indices_as_well(tracked_first: bool) -> None:
    torch.manual_seed(0)
    model = Unpooling()
    with torch.no_grad():
        plain = model(X)
        with fmstats.track(model) as tracker:
            model(X)
        want = tracker.stats()
        dynamo.reset()
        graph = torch.compile(model, backend="eager")
        if not tracked_first:
            graph(X)
        with fmstats.track(model) as tracker:
            assert torch.equal(graph(X), plain)
    got = tracker.stats()
    rows = ["max_pool2d", "adaptive_max_pool2d", "max_unpool2d", "add"]
    assert [name for name in got if "/" in name] == [f"(model)/{name}" for name in rows]
    for name in want:
        assert got[name].state.words.tolist() == want[name].state.words.tolist(), name
        assert got.info[name].channel_dim == want.info[name].channel_dim == 1, name
    assert not any("guess" in row.channels for row in tracker.coverage())
