"""Functional operations and taps: which have rows, what these are called, and what they hold."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fmstats
from fmstats import FmstatsError


class Block(nn.Module):
    """A block of a residual network, with functional activations and a functional join."""

    def __init__(self, width: int = 4, reuse: bool = False) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.last, self.reuse = nn.Conv2d(width, width, 3, padding=1), reuse

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x)), inplace=self.reuse)
        y = self.last(y) + x
        return torch.relu(y)


class Net(nn.Module):
    def __init__(self, reuse: bool = False) -> None:
        super().__init__()
        self.stem, self.act = nn.Conv2d(3, 4, 3), nn.GELU()
        self.blocks = nn.Sequential(Block(reuse=reuse), Block(reuse=reuse))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(F.max_pool2d(self.stem(x), 2))
        x = F.adaptive_avg_pool2d(self.blocks(x), 1).flatten(1)
        return F.log_softmax(self.head(x), dim=-1)


ROWS = {
    "(model)/max_pool2d": "max_pool2d",
    "blocks.0/relu": "relu",
    "blocks.0/add": "add",
    "blocks.0/relu_1": "relu",
    "blocks.1/relu": "relu",
    "blocks.1/add": "add",
    "blocks.1/relu_1": "relu",
    "(model)/adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "(model)/log_softmax": "log_softmax",
}
LEAVES = {
    *("stem", "act", "head", "blocks.0.conv", "blocks.0.norm", "blocks.0.last"),
    *("blocks.1.conv", "blocks.1.norm", "blocks.1.last"),
}


def images(batch: int = 4) -> Tensor:
    return torch.randn(batch, 3, 16, 16)


def seen_outputs(model: nn.Module, run: Callable[[], object]) -> dict[str, list[Tensor]]:
    """What relu gave in each block, by calls of F.relu and torch.relu put in their place."""
    seen: dict[str, list[Tensor]] = {}
    relu = torch.relu
    with pytest.MonkeyPatch.context() as patch:

        def keep(name: str, y: Tensor) -> Tensor:
            seen.setdefault(name, []).append(y.detach().clone())
            return y

        patch.setattr(F, "relu", lambda x, inplace=False: keep("relu", relu(x)))
        patch.setattr(torch, "relu", lambda x: keep("relu_1", relu(x)))
        run()
    return seen


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_rows_of_functional_operations(training: bool, reuse: bool) -> None:
    """Their names, types, places and numbers are right, and outputs have the same bits."""
    torch.manual_seed(0)
    model = Net(reuse).train(training)
    other = copy.deepcopy(model)
    data = [images(), images(), images(2)]
    seen = seen_outputs(other, lambda: [other(x) for x in data])
    other.load_state_dict(copy.deepcopy(model).state_dict())
    plain = [other(x) for x in data]
    with fmstats.track(model) as tracker:
        outputs = [model(x) for x in data]
    assert all(map(torch.equal, outputs, plain))
    profile = tracker.stats()
    found = {name: row.type for name, row in profile.info.items() if name not in LEAVES}
    assert found == ROWS
    assert set(profile) == LEAVES | set(ROWS)
    assert {row.channel_dim for row in profile.info.values()} == {1}
    for name in ("relu", "relu_1"):
        for number, block in enumerate(("blocks.0", "blocks.1")):
            ys = seen[name][number::2]
            flat = torch.cat([y.movedim(1, 0).flatten(1) for y in ys], 1).double()
            stats = profile[f"{block}/{name}"]
            assert stats.zeros.tolist() == (flat == 0).sum(1).tolist()
            assert stats.max.tolist() == flat.amax(1).tolist()
            assert stats.mean.tolist() == pytest.approx(flat.mean(1).tolist(), rel=1e-6)


def test_the_order_of_execution() -> None:
    model = Net()
    with fmstats.track(model) as tracker:
        model(images())
    block = ["conv", "norm"]
    assert list(tracker.stats())[:10] == [
        *("stem", "(model)/max_pool2d", "act"),
        *(f"blocks.0.{name}" for name in block),
        *("blocks.0/relu", "blocks.0.last", "blocks.0/add", "blocks.0/relu_1", "blocks.1.conv"),
    ]


def test_dead_channels_behind_a_function_are_found() -> None:
    model = Net().eval()
    with torch.no_grad():
        model.blocks[0].norm.bias[1] = -100.0
    profile = fmstats.profile(model, [images() for _ in range(8)], progress=False)
    assert profile["blocks.0/relu"].dead.tolist() == [False, True, False, False]
    found = [f for f in profile.diagnose() if f.layer == "blocks.0/relu"]
    assert [finding.channels for finding in found][:1] == [(1,)]


@pytest.mark.parametrize(
    ("functional", "want"),
    [
        (False, set()),
        (True, set(ROWS)),
        ("relu", {name for name, kind in ROWS.items() if kind == "relu"}),
        (["add", "*/log_softmax"], {"blocks.0/add", "blocks.1/add", "(model)/log_softmax"}),
        (("blocks.1/*",), {name for name in ROWS if name.startswith("blocks.1/")}),
    ],
)
def test_the_choice_of_operations(functional: object, want: set[str]) -> None:
    model = Net()
    with fmstats.track(model, functional=functional) as tracker:  # type: ignore[arg-type]
        model(images())
    assert set(tracker.stats()) - LEAVES == want


def test_names_do_not_depend_on_the_choice() -> None:
    model = Net()
    with fmstats.track(model, functional=["blocks.0/relu_1"]) as tracker:
        model(images())
    assert "blocks.0/relu_1" in tracker.stats()


@pytest.mark.parametrize("functional", [None, 1, 0.5, [1], {"relu": None, 2: None}, {3}])
def test_a_wrong_choice_is_refused(functional: object) -> None:
    with pytest.raises(FmstatsError, match=r"functional=.*'auto', True, False"):
        fmstats.track(Net(), functional=functional)  # type: ignore[arg-type]


def test_include_and_exclude_are_of_these_rows_too() -> None:
    model = Net()
    with fmstats.track(model, include="blocks.*", exclude="*/add") as tracker:
        model(images())
    rows = set(tracker.stats())
    assert {name for name in rows if "/" in name} == {
        *("blocks.0/relu", "blocks.0/relu_1", "blocks.1/relu", "blocks.1/relu_1"),
    }
    with fmstats.track(model, include=nn.Conv2d) as tracker:
        model(images())
    assert not any("/" in name for name in tracker.stats())


class Activation(nn.Module):
    """A module that is one operation: its output is measured, not what it calls."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh(x))


class Gated(nn.Module):
    """A module without parts, but with weights: its operations are layers."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(F.linear(x, self.up)[..., :3]) @ self.down.T + 1.0


def test_modules_that_are_one_operation_are_not_taken_apart() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Activation(), nn.ReLU(), nn.Softmax(-1), Gated())
    with fmstats.track(model) as tracker:
        model(torch.randn(5, 4))
    assert set(tracker.stats()) == {"0", "1", "2", "3", "4", "4/silu"}
    with fmstats.track(model, functional=True) as tracker:
        model(torch.randn(5, 4))
    assert set(tracker.stats()) >= {"1/tanh", "4/silu"}


class Joins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)
        self.scale, self.shift = nn.Parameter(torch.ones(4)), torch.ones(4)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        a = a * self.scale + self.shift + 1.0  # no joins
        joined = torch.cat([a * b, a + b, b], dim=-1)
        joined += torch.concat((a, a, b), -1)
        return joined


def test_joins_are_of_two_feature_maps() -> None:
    model = Joins()
    with fmstats.track(model) as tracker:
        model(torch.randn(5, 3))
    names = [name for name in tracker.stats() if "/" in name]
    assert names == [f"(model)/{name}" for name in ("mul", "add", "cat", "cat_1", "add_1")]
    assert tracker.stats()["(model)/cat"].channels == 12


class Loop(nn.Module):
    def __init__(self, turns: int) -> None:
        super().__init__()
        self.cell, self.turns = nn.Linear(4, 4), turns

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.turns):
            x = torch.tanh(self.cell(x))
        return x


class Residual(nn.Module):
    """A loop of sums that begins with the input, or with the number 0."""

    def __init__(self, from_input: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.from_input = from_input

    def forward(self, x: Tensor) -> Tensor:
        if not self.from_input:
            return torch.as_tensor(sum(layer(x) for layer in self.layers))
        for layer in self.layers:
            x = x + layer(x)
        return x


@pytest.mark.parametrize(("from_input", "calls"), [(True, 2 + 3 + 3), (False, 2 + 2 + 2)])
def test_a_loop_of_sums_that_begins_with_no_layer_has_a_row(from_input: bool, calls: int) -> None:
    model, x = Residual(from_input), torch.randn(5, 4)
    with fmstats.track(model) as tracker:
        for _ in range(3):
            model(x)
    (row,) = [row for row in tracker.coverage() if row.type == "add"]
    assert (row.name, row.calls) == ("(model)/add", calls)
    assert row.status == ("in part" if from_input else "tracked")


@pytest.mark.parametrize("per_call", [False, True])
def test_a_loop_calls_one_place(per_call: bool) -> None:
    model = Loop(3)
    with fmstats.track(model, per_call=per_call) as tracker:
        model(torch.randn(5, 4))
        model(torch.randn(5, 4))
    rows = {name: row.calls for name, row in tracker.stats().info.items() if "/" in name}
    calls = {f"(model)/tanh#{i}": 2 for i in range(3)}
    assert rows == (calls if per_call else {"(model)/tanh": 6})
    assert tracker.stats().metadata["passes"] == 2


def test_bounds_are_those_of_modules() -> None:
    class Bounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.layer(x)
            y = F.hardtanh(F.relu6(x), -2.0, max_val=3.0) + x
            return torch.sigmoid(y) + x.tanh() + F.hardsigmoid(x)

    model = Bounded()
    with fmstats.track(model, zero_tol=0.25, saturation={"*/tanh": (-0.5, 0.5)}) as tracker:
        model(torch.randn(5, 3))
    limits = {name: tracker.stats()[f"(model)/{name}"].thresholds for name in (
        *("relu6", "hardtanh", "sigmoid", "tanh", "hardsigmoid"),
    )}  # fmt: skip
    assert {name: (limit.low, limit.high) for name, limit in limits.items()} == {
        "relu6": (None, 6.0),
        "hardtanh": (-2.0, 3.0),
        "sigmoid": (0.01, 0.99),
        "tanh": (-0.5, 0.5),
        "hardsigmoid": (0.0, 1.0),
    }
    assert {limit.zero_tol for limit in limits.values()} == {0.25}


def test_inputs_and_gradients() -> None:
    torch.manual_seed(0)
    model, x = Loop(1), torch.randn(5, 4)
    with fmstats.track(model, of="input") as tracker:
        y = model.cell(x)
        model(x)
    assert tracker.stats()["(model)/tanh"].max.tolist() == y.amax(0).tolist()
    with fmstats.track(model, of="grad_output") as tracker:
        (model(x) * torch.arange(4.0)).sum().backward()
    assert tracker.stats()["(model)/tanh"].mean.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_shards_merge_and_a_run_goes_on() -> None:
    torch.manual_seed(0)
    model, data = Net().eval(), [images() for _ in range(4)]
    with torch.no_grad():
        whole = fmstats.profile(model, data, progress=False)
        parts = [fmstats.profile(model, data[i::2], progress=False) for i in (0, 1)]
        half = fmstats.profile(model, data[:2], progress=False)
        with fmstats.track(model) as tracker:
            tracker.restore(half)
            assert tracker.stats().info.keys() == whole.info.keys()
            for x in data[2:]:
                model(x)
    merged, resumed = parts[0] | parts[1], tracker.stats()
    for name in whole:
        assert merged[name].count.tolist() == whole[name].count.tolist()
        assert torch.equal(resumed[name].state.words, whole[name].state.words)


def test_files_keep_the_rows(tmp_path: Path) -> None:
    profile = fmstats.profile(Net(), [images()], progress=False)
    profile.save(tmp_path / "a.fmstats")
    loaded = fmstats.load(tmp_path / "a.fmstats")
    assert {name: row.type for name, row in loaded.info.items()} == {
        name: row.type for name, row in profile.info.items()
    }


def test_copies_are_not_tracked_and_nothing_stays() -> None:
    model, x = Net(), images()
    with fmstats.track(model) as tracker:
        model(x)
        model(x)
        before = tracker.stats()["blocks.0/relu"].count.tolist()
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            other(x)
        assert tracker.stats()["blocks.0/relu"].count.tolist() == before
    model(x)
    assert tracker.stats()["blocks.0/relu"].count.tolist() == before
    assert torch._C._len_torch_function_stack() == 0
    hooks = [h for m in model.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]
    assert not hooks


def test_pauses_and_every_hold_for_them() -> None:
    model, x = Net(), images()
    with fmstats.track(model, every=2) as tracker:
        for _ in range(4):
            model(x)
        tracker.pause()
        model(x)
        tracker.resume()
        assert tracker.stats().info["blocks.1/relu"].calls == 2
        tracker.reset()
        assert not tracker.stats()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_counts_an_activation_once(reentrant: bool) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.block = nn.Conv2d(3, 4, 1), Block()

        def activate(self, x: Tensor) -> Tensor:
            return torch.tanh(self.first(x))

        def forward(self, x: Tensor) -> Tensor:
            x = checkpoint(self.activate, x, use_reentrant=reentrant)  # a function, not a module
            out = checkpoint(self.block, x, use_reentrant=reentrant)
            assert isinstance(out, Tensor)
            return out

    model, x = Checkpointed(), images().requires_grad_()
    with fmstats.track(model) as tracker:
        for _ in range(3):
            model(x).sum().backward()
    assert tracker.stats().info["block/relu"].calls == 3
    assert tracker.stats().info["block/relu_1"].calls == 3
    assert tracker.stats().info["(model)/tanh"].calls == 3


def test_autocast_is_measured_in_its_dtype() -> None:
    model, x = Loop(1), torch.randn(5, 4)
    with fmstats.track(model) as tracker, torch.autocast("cpu", torch.bfloat16):
        model(x)
    assert tracker.stats().info["(model)/tanh"].dtype == "bfloat16"


def test_a_place_that_comes_later_is_found_in_the_next_pass() -> None:
    """It is given its row in a pass that is followed; the pass in which it came first is not."""

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.late = nn.Linear(4, 4), False

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.layer(x))
            return torch.sigmoid(x) if self.late else x

    model, x = Late(), torch.randn(5, 4)
    with fmstats.track(model) as tracker:
        model(x)
        model.late = True
        for _ in range(3):
            model(x)
    info = tracker.stats().info
    assert info["(model)/relu"].calls == 4
    assert info["(model)/sigmoid"].calls == 2
    (row,) = [row for row in tracker.coverage() if row.name == "(model)/sigmoid"]
    assert row.status == "in part"


class Tapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.heads = nn.Linear(4, 6), 2

    def forward(self, x: Tensor) -> Tensor:
        x = fmstats.tap(self.layer(x), "features")
        heads = fmstats.tap(x.unflatten(-1, (self.heads, 3)), "heads")
        return heads.sum()


def test_taps() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Tapped())
    x = torch.randn(5, 4)
    assert torch.equal(model(x), model(x))
    with fmstats.track(model, functional=False) as tracker, torch.no_grad():
        plain = model(x)
        model(x)
    model(x)
    profile = tracker.stats()
    assert set(profile) == {"0.layer", "0/features", "0/heads"}
    assert {row.type for name, row in profile.info.items() if "/" in name} == {"tap"}
    assert profile["0/features"].state.words.tolist() == profile["0.layer"].state.words.tolist()
    assert profile["0/heads"].count.tolist() == [30, 30]
    assert plain.dim() == 0


class Namesake(nn.Module):
    """A tap that has the name of an operation, before it or after it; and one with a slash."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.layer, self.first = nn.Linear(4, 6), first

    def forward(self, x: Tensor) -> Tensor:
        x = fmstats.tap(self.layer(x), "by/layer")
        if self.first:
            return torch.relu(fmstats.tap(x - 100, "relu"))
        return fmstats.tap(torch.relu(x) - 100, "relu")


@pytest.mark.parametrize(
    ("first", "want"),
    [
        (True, {"0/relu": "tap", "0/relu_1": "relu"}),
        (False, {"0/relu": "relu", "0/relu_tap": "tap"}),
    ],
)
def test_a_tap_and_an_operation_of_one_name_have_a_row_each(
    first: bool, want: dict[str, str]
) -> None:
    model, x = nn.Sequential(Namesake(first)), torch.randn(5, 4)
    with fmstats.track(model) as tracker:
        model(x)
        model(x)
    profile = tracker.stats()
    types = {name: row.type for name, row in profile.info.items() if "/" in name}
    assert types == {"0/by/layer": "tap", **want}
    for name, kind in want.items():
        assert profile[name].count.tolist() == [10] * 6
        assert (profile[name].min < 0).all() == (kind == "tap")
    with fmstats.track(model) as tracker:
        tracker.restore(profile)
        model(x)
    assert {name: row.calls for name, row in tracker.stats().info.items()} == dict.fromkeys(
        profile, 3
    )


def test_a_tap_without_a_tracker_returns_its_argument() -> None:
    value = object()
    assert fmstats.tap(value, "anything") is value


def test_two_trackers_see_the_same() -> None:
    model, x = Net(), images()
    with fmstats.track(model) as first, fmstats.track(model) as second:
        model(x)
        model(x)
    a, b = first.stats(), second.stats()
    assert set(a) == set(b) == LEAVES | set(ROWS)
    for name in a:
        assert torch.equal(a[name].state.words, b[name].state.words)


def test_a_pass_that_a_signal_broke_off_is_forgotten() -> None:
    """Nothing is called of it after some more operations, and the next pass begins as usual."""

    class Interrupted(Loop):
        breaks = True

        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            if self.breaks:
                raise KeyboardInterrupt
            return x

    model, x = Interrupted(1), torch.randn(5, 4)
    with fmstats.track(model) as tracker:
        with pytest.raises(KeyboardInterrupt):
            model(x)
        for _ in range(100):
            torch.tanh(x)
        mode = tracker._gate.watch._thread.mode  # type: ignore[union-attr]
        assert mode._over  # type: ignore[union-attr]
        model.breaks = False
        model(x)
        assert tracker.stats().info["(model)/tanh"].calls == 2
        assert torch._C._len_torch_function_stack() == 0


def test_a_tap_that_comes_later_is_found_in_the_next_pass() -> None:
    """Also where no pass is watched any more, since there are no other operations."""

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.late = nn.Linear(4, 4), False

        def forward(self, x: Tensor) -> Tensor:
            x = self.layer(x)
            return fmstats.tap(x, "late") if self.late else x

    model, x = Late(), torch.randn(5, 4)
    with fmstats.track(model) as tracker:
        for model.late in (False, True, True, True):
            model(x)
    assert tracker.stats().info["(model)/late"].calls == 2


@pytest.mark.parametrize("functional", ["rleu", ["relu", "add_1"], {"layer"}])
def test_a_name_that_can_be_no_operation_is_refused(functional: object) -> None:
    with pytest.raises(FmstatsError, match=r"is no operation that has rows; closest: .*relu"):
        fmstats.track(Net(), functional=functional)  # type: ignore[arg-type]


def test_a_join_by_keyword_is_a_join() -> None:
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.add(self.a(x), other=self.b(x))

    with fmstats.track(model := Keyword()) as tracker:
        model(torch.randn(5, 3))
    assert "(model)/add" in tracker.stats()


@pytest.mark.filterwarnings("ignore:.torch.jit.trace. is deprecated")
def test_an_example_of_a_traced_function_is_no_data() -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.randn(5, 3)
    model.requires_grad_(False)
    with fmstats.track(model) as tracker:
        model(x)
        torch.jit.trace(lambda x: model[1](model[0](x)), x, check_trace=False)
    assert tracker.stats().info["0"].calls == 1


def test_each_sum_of_a_line_is_a_place() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(3, 4) for _ in range(3))
            self.shift = nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x) + self.shift + self.b(x)
            return y + self.b(x) + self.c(x)

    with fmstats.track(model := Sums()) as tracker:
        model(torch.randn(5, 3))
    rows = {name: row.calls for name, row in tracker.stats().info.items() if "/" in name}
    assert rows == {"(model)/add": 1, "(model)/add_1": 1, "(model)/add_2": 1}
    assert {row.status for row in tracker.coverage()} == {"tracked"}


class Called(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


@pytest.mark.parametrize(
    ("function", "want"),
    [
        (
            lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),  # as in SegNet
            ["max_pool2d", "max_unpool2d"],
        ),
        (torch.special.expit, ["sigmoid"]),
        (lambda x: torch.special.softmax(x, 1), ["softmax"]),
        (lambda x: torch.special.log_softmax(x, 1), ["log_softmax"]),
    ],
)
def test_operations_of_other_names_have_rows(
    function: Callable[[Tensor], Tensor], want: list[str]
) -> None:
    model = Called(function)
    with fmstats.track(model) as tracker:
        output = model(images())
    rows = {name: row for name, row in tracker.stats().info.items() if "/" in name}
    assert {name: row.type for name, row in rows.items()} == {f"(model)/{k}": k for k in want}
    last = rows[f"(model)/{want[-1]}"]
    assert (last.channel_dim, last.shape) == (1, tuple(output.shape))
    flat = output.detach().double().movedim(1, 0).flatten(1)
    assert last.stats.zeros.tolist() == (flat == 0).sum(1).tolist()
    assert last.stats.max.tolist() == flat.amax(1).tolist()
    assert last.stats.mean.tolist() == pytest.approx(flat.mean(1).tolist(), rel=1e-6, abs=1e-7)
