"""torch.compile: hooks are in the graph, measure correctly, and are never silently left out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats import Profile

dynamo = pytest.importorskip("torch._dynamo")


class Residual(nn.Module):
    """An in-place activation after a producer, a functional sum, and two outputs."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.act(self.norm(self.conv(x)))
        return x + y, y


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 6, 3)
        self.block = Residual()
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.block(self.stem(x))
        return self.head(x.mean((2, 3)))


BATCHES = [torch.randn(n, 3, 9, 9, generator=torch.Generator().manual_seed(n)) for n in (2, 2, 2)]
LAYERS = ["stem", "block.conv", "block.norm", "block.act", "block/add", "block", "head"]
EVERYTHING = ["stem", "block*", "block", "head"]


@pytest.fixture(autouse=True)
def _fresh_graphs() -> Iterator[None]:
    torch.compiler.reset()
    dynamo.utils.counters.clear()
    yield
    torch.compiler.reset()


def compiled(model: nn.Module, **options: Any) -> Any:
    return torch.compile(model, **{"fullgraph": True, **options})


def run(model: Any, passes: int = 3) -> None:
    with torch.no_grad():
        for x in BATCHES[:passes]:
            model(x)


def eager_profile(passes: int = 3, **options: Any) -> Profile:
    model = Net().eval()
    with fmstats.track(model, include=EVERYTHING, **options) as tracker:
        run(model, passes)
    return tracker.stats()


def assert_same(a: Profile, b: Profile) -> None:
    """Graphs fuse and reorder products: values may differ in their last bits, counts may not."""
    assert set(a) == set(b)
    for name in a:
        for field in ("count", "nan", "pos_inf", "neg_inf"):
            np.testing.assert_array_equal(getattr(a[name], field), getattr(b[name], field))
        for field in ("mean", "std", "min", "max"):
            np.testing.assert_allclose(
                getattr(a[name], field), getattr(b[name], field), rtol=1e-4, atol=1e-5
            )


def graphs() -> int:
    return int(dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.mark.parametrize("compiler", ["eager", "aot_eager", "inductor"])
def test_tracked_then_compiled(compiler: str) -> None:
    model = Net().eval()
    with fmstats.track(model, include=EVERYTHING) as tracker:
        run(compiled(model, backend=compiler))
    assert list(tracker.stats()) == LAYERS
    assert_same(tracker.stats(), eager_profile())
    assert {row.status for row in tracker.coverage()} == {"tracked"}
    assert tracker.stats().metadata["passes"] == 3


def test_no_graph_breaks() -> None:
    model = Net().eval()
    with fmstats.track(model, include=EVERYTHING):
        explained = dynamo.explain(model)(BATCHES[0])
    assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained.break_reasons


def test_a_function_around_the_model_is_one_graph() -> None:
    model = Net().eval()
    with fmstats.track(model, include=EVERYTHING) as tracker, torch.no_grad():
        step = torch.compile(lambda x: model(x).softmax(1), fullgraph=True)
        for x in BATCHES:
            step(x)
    assert graphs() == 1
    assert_same(tracker.stats(), eager_profile())
    assert tracker.stats().metadata["passes"] == 3


def test_the_model_itself_as_a_layer() -> None:
    """Dynamo calls the hooks of what is compiled outside of the graph."""
    model = Net().eval()
    with fmstats.track(model, include="(model)") as tracker:
        run(compiled(model))
    assert graphs() == 1
    assert tracker.stats()["(model)"].count.tolist() == [6, 6]


def test_nothing_recompiles() -> None:
    model = Net().eval()
    tracker = fmstats.track(model, every=2)
    network = compiled(model)
    run(network)
    before = graphs()
    assert before == 1
    tracker.pause()
    run(network)
    tracker.resume()
    run(network)
    tracker.reset()
    run(network)
    assert graphs() == before
    assert tracker.stats()["stem"].count.tolist() == [2 * 2 * 49] * 6  # passes 0 and 2 of three


def test_pause_in_a_graph() -> None:
    model = Net().eval()
    tracker = fmstats.track(model, include=EVERYTHING)
    network = compiled(model)
    run(network, 1)
    tracker.pause()
    run(network)
    tracker.resume()
    run(network, 1)
    stats = tracker.stats()
    assert stats["stem"].count.tolist() == [2 * 2 * 49] * 6
    assert stats.metadata["passes"] == 2


def test_a_closed_tracker_sees_no_more() -> None:
    model = Net().eval()
    tracker = fmstats.track(model)
    network = compiled(model)
    run(network, 1)
    before = tracker.stats().to_dict()
    tracker.close()
    run(network)
    assert tracker.stats().to_dict() == before


def test_a_forgotten_tracker_leaves_a_graph_that_runs() -> None:
    model = Net().eval()
    tracker = fmstats.track(model)
    network = compiled(model)
    run(network, 1)
    del tracker
    run(network)
    with torch.no_grad():
        torch.testing.assert_close(network(BATCHES[0]), model(BATCHES[0]))


@pytest.mark.parametrize("way", ["wrapped", "inner", "in place", "a part"])
def test_compiled_then_tracked(way: str) -> None:
    """Dynamo does not ask for hooks: a graph made without them has to be made anew."""
    model = Net().eval()
    network: Any = model
    if way == "in place":
        model.compile(fullgraph=True)
    elif way == "a part":
        model.block = torch.compile(model.block, fullgraph=True)
    else:
        network = compiled(model)
    run(network, 1)
    with fmstats.track(network if way == "wrapped" else model, include=EVERYTHING) as tracker:
        run(network)
    # Nothing is known in the graph of a part of what comes in: its sum with it has no row.
    options = {"functional": False} if way == "a part" else {}
    got, want = tracker.stats(), eager_profile(**options)
    assert sorted(got) == sorted(want)
    assert_same(got, want)


def test_another_instance_of_a_compiled_class() -> None:
    run(compiled(Net().eval()), 1)
    model = Net().eval()
    with fmstats.track(model, include=EVERYTHING) as tracker:
        run(compiled(model))
    assert_same(tracker.stats(), eager_profile())


@pytest.mark.parametrize("first", ["bare", "tracked"])
def test_another_instance_compiled_after_track(first: str) -> None:
    """Each has its own graph, whichever is made first."""
    model, bare = Net().eval(), Net().eval()
    with fmstats.track(model, include=EVERYTHING) as tracker:
        networks = [compiled(bare), compiled(model)]
        for network in networks if first == "bare" else networks[::-1]:
            run(network)
        run(networks[0])
    assert_same(tracker.stats(), eager_profile())
    assert tracker.stats().metadata["passes"] == 3


BEFORE_DYNAMO = """
import sys, torch, fmstats
tracked, bare = (torch.nn.Sequential(torch.nn.Linear(3, 4)) for _ in range(2))
tracker = fmstats.track(tracked)
assert "torch._dynamo" not in sys.modules
for model in (bare, tracked):
    torch.compile(model, backend="eager", fullgraph=True)(torch.ones(2, 3))
assert tracker.stats()["0"].count.tolist() == [2] * 4
assert not torch._dynamo.config.skip_nnmodule_hook_guards
tracker.close()
assert torch._dynamo.config.skip_nnmodule_hook_guards
assert not [f for f in sys.meta_path if type(f).__module__.startswith("fmstats")]
"""


def test_tracked_before_dynamo_is_imported() -> None:
    """`track()` does not wait for the import, which takes seconds, and is told of it."""
    done = subprocess.run([sys.executable, "-c", BEFORE_DYNAMO], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


IMPORTED_WITHIN = """
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

with torch.inference_mode(), FakeTensorMode():
    import fmstats
model = torch.nn.Sequential(torch.nn.ReLU())
tracker = fmstats.track(model)
around = torch.nn.Sequential(model)
torch.compile(around, backend="aot_eager")(torch.ones(2, 3))
assert tracker.stats()["0"].count.tolist() == [2, 2, 2]
"""


def test_imported_within_modes_of_others() -> None:
    """What orders the operations of all graphs is made then."""
    done = subprocess.run([sys.executable, "-c", IMPORTED_WITHIN], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_hooks_are_looked_at_only_while_something_is_tracked() -> None:
    config = dynamo.config
    assert config.skip_nnmodule_hook_guards
    with fmstats.track(Net()), fmstats.track(Net()):
        assert not config.skip_nnmodule_hook_guards
    assert config.skip_nnmodule_hook_guards
    with config.patch(skip_nnmodule_hook_guards=False):
        fmstats.track(Net()).close()
        assert not config.skip_nnmodule_hook_guards


def test_two_trackers_in_one_graph() -> None:
    model = Net().eval()
    all_layers = fmstats.track(model)
    alone = fmstats.track(model, include="head", every=3)
    run(compiled(model))
    assert all_layers.stats()["head"].count.tolist() == [6, 6]
    assert alone.stats()["head"].count.tolist() == [2, 2]


@pytest.mark.parametrize("options", [{"of": "input"}, {"per_call": True}, {"when": "eval"}])
def test_options(options: dict[str, Any]) -> None:
    model = Net().eval()
    with fmstats.track(model, include=EVERYTHING, **options) as tracker:
        run(compiled(model))
    if options.get("of") == "input":  # of functional operations, which graphs do not see
        options = {**options, "functional": False}
    assert_same(tracker.stats(), eager_profile(**options))


def test_the_mode_is_asked_in_each_pass() -> None:
    model = Net().eval()
    with fmstats.track(model, when="train") as tracker:
        network = compiled(model)
        run(network)
        model.train()
        network(BATCHES[0]).sum().backward()
    assert tracker.stats().metadata["passes"] == 1
    assert tracker.stats()["head"].count.tolist() == [2, 2]


def test_training() -> None:
    """Gradients are those of the untracked model, and each activation is counted once."""
    plain, model = Net(), Net()
    compiled(plain)(BATCHES[0]).square().sum().backward()
    torch.compiler.reset()
    with fmstats.track(model, include=EVERYTHING) as tracker:
        compiled(model)(BATCHES[0]).square().sum().backward()
    for a, b in zip(plain.parameters(), model.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5)
    assert tracker.stats()["block"].count.tolist() == [2 * 49] * 6


def test_before_an_in_place_relu() -> None:
    model = Net().eval()
    with fmstats.track(model, include=EVERYTHING) as tracker:
        run(compiled(model))
    stats = tracker.stats()
    assert (stats["block.norm"].min < 0).all()
    assert (stats["block.act"].min == 0).all()


def test_other_shapes_are_the_same_tracker() -> None:
    model = Net().eval()
    with fmstats.track(model) as tracker, torch.no_grad():
        network = compiled(model, dynamic=True)
        for size in (9, 11, 14):
            network(torch.randn(1, 3, size, size))
    assert tracker.stats()["stem"].count.tolist() == [49 + 81 + 144] * 6


def test_gradients_of_graphs_are_out_of_reach() -> None:
    model = Net()
    with fmstats.track(model, of="grad_output") as tracker:
        compiled(model)(BATCHES[0]).sum().backward()
    assert not tracker.stats()
    assert {row.status for row in tracker.coverage()} == {"skipped"}
    assert "without torch.compile" in str(tracker.coverage()[0].reason)


def test_errors_come_out_of_graphs() -> None:
    model = nn.Sequential(nn.Identity())
    with fmstats.track(model, channel_dim=1, on_error="raise") as tracker, torch.no_grad():
        network = compiled(model)
        network(torch.ones(2, 3))
        with pytest.raises(fmstats.FmstatsError, match=r"layer '0' \(Identity\): channel_dim=1 is"):
            network(torch.ones(4))
    assert tracker.stats()["0"].count.tolist() == [2, 2, 2]


def test_a_layer_of_several_widths_in_a_graph() -> None:
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(3, 4), act, nn.Linear(4, 6), act)
    with fmstats.track(model) as tracker, torch.no_grad():
        network = compiled(model)
        for _ in range(3):
            network(torch.randn(5, 3))
    rows = {name: int(stats.count[0]) for name, stats in tracker.stats().items()}
    assert rows == {"0": 15, "1@4": 15, "2": 15, "1@6": 15}


@pytest.mark.parametrize("name", ["hand_over", "mark_pass_boundary", "begin_pass_in_graph"])
def test_the_operation_is_what_it_declares(name: str) -> None:
    op_token = torch.zeros(1, dtype=torch.int64)
    args = (torch.randn(2, 3), op_token, -1) if name == "hand_over" else ([op_token], -1, True)
    torch.library.opcheck(getattr(torch.ops.fmstats, name).default, args)


@pytest.mark.parametrize("strict", [False, True])
def test_exported_programs_hold_nothing_of_us(strict: bool) -> None:
    model = Net().eval()
    with fmstats.track(model) as tracker:
        program = torch.export.export(model, (BATCHES[0],), strict=strict)
        assert "fmstats" not in str(program.graph)
        run(model, 1)
    assert tracker.stats()["stem"].count.tolist() == [98] * 6


def test_hooks_are_looked_at_until_the_last_tracker_ends() -> None:
    import torch._dynamo.config as config

    before = config.skip_nnmodule_hook_guards
    trackers = [fmstats.track(nn.Sequential(nn.ReLU())) for _ in range(2)]
    for tracker in trackers:
        assert not config.skip_nnmodule_hook_guards
        tracker.close()
    assert config.skip_nnmodule_hook_guards == before
