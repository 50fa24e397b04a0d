"""Modules that are more than a layer in a row: shared, reused, nested, lazy, replaced, cast."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from compat_models import DenseBlock, ResidualBlock, assert_row, assert_rows, captured, leaves_of
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import fmstats
from fmstats.backends import BACKENDS
from fmstats.errors import FmstatsError
from fmstats.tracking.tracker import Tracker

NAMES = [b.name for b in BACKENDS if b.why_not() is None]


class Net(nn.Module):
    """Parts, and a function of these and the input."""

    def __init__(self, forward: Callable[..., object], **parts: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> object:
        return self.run(self, x)


def tracked(model: nn.Module, x: object, **options: object) -> Tracker:
    with torch.no_grad(), fmstats.track(model, **options) as tracker:  # type: ignore[arg-type]
        model(x)
    return tracker


def test_a_module_under_two_names_has_a_row_under_the_first() -> None:
    shared = nn.Linear(4, 4)
    model = Net(lambda m, x: m.b(m.a(x).relu()), a=shared, b=shared)
    x = torch.randn(5, 4)
    seen, _ = captured(model, lambda: model(x), {"a": shared})
    assert_rows(tracked(model, x).stats(), seen, {"a": 1})
    with pytest.raises(FmstatsError, match=r"^include='b' matches none of the 2 modules"):
        fmstats.track(model, include="b")


def test_a_shared_block_has_its_layers_once() -> None:
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model = nn.Sequential(block, nn.Tanh(), block)
    x = torch.randn(5, 4)
    seen, _ = captured(model, lambda: model(x), {"0.0": block[0], "0.1": block[1], "1": model[1]})
    profile = tracked(model, x).stats()
    assert_rows(profile, seen, dict.fromkeys(seen, 1))
    assert [info.calls for info in profile.info.values()] == [2, 2, 1]


def test_a_module_called_a_number_of_times_that_depends_on_the_data() -> None:
    model = Net(lambda m, x: [m.cell(x) for _ in range(len(x))][-1], cell=nn.Linear(3, 4))
    batches = [torch.randn(n, 3) for n in (2, 5, 1)]
    outputs = [model.cell(x).double().detach() for x in batches for _ in range(len(x))]
    with torch.no_grad(), fmstats.track(model) as tracker:
        for x in batches:
            model(x)
    assert tracker.stats().info["cell"].calls == 8
    assert_row(tracker.stats()["cell"], outputs, 1)


def test_a_recursive_module() -> None:
    class Halving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(x) if len(x) == 1 else self.forward(x[: len(x) // 2])

    model = Net(lambda m, x: m.part(x), part=Halving())
    x = torch.randn(8, 3)
    profile = tracked(model, x, include=["part", "part.act"]).stats()
    assert_rows(profile, {"part.act": [x[:1].relu().double()]} | {"part": [x[:1].relu().double()]},
                {"part": 1, "part.act": 1})  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "act", [nn.ReLU(inplace=True), nn.Hardswish(inplace=True), nn.Dropout(0.5, inplace=True)]
)
def test_what_a_producer_gave_before_it_was_changed_in_place(act: nn.Module, name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), act).train()
    x = torch.randn(2, 3, 6, 6)
    fresh = copy.deepcopy(model)
    torch.manual_seed(1)
    seen, plain = captured(fresh, lambda: fresh(x))
    torch.manual_seed(1)
    with fmstats.track(model, backend=name) as tracker:
        got = model(x)
    assert_rows(tracker.stats(), seen, dict.fromkeys(seen, 1))
    assert torch.equal(got, plain[0])


def test_an_in_place_change_by_the_block_after_its_hooks() -> None:
    def forward(model: Net, x: Tensor) -> Tensor:
        y = model.conv(x)
        y += 1
        return y.mul_(2)

    model = Net(forward, conv=nn.Conv2d(3, 4, 3))
    x = torch.randn(2, 3, 6, 6)
    seen, plain = captured(model, lambda: model(x))
    assert_rows(tracked(model, x).stats(), seen, {"conv": 1})
    assert plain[0].allclose((seen["conv"][0].float() + 1) * 2)


@dataclass
class Output:
    steps: int
    hidden: Tensor | None
    logits: Tensor


def model_output(x: Tensor) -> object:
    outputs = pytest.importorskip("transformers.modeling_outputs", reason="needs transformers")
    return outputs.BaseModelOutputWithPooling(pooler_output=x, hidden_states=(x * 2,))


NESTED: dict[str, Callable[[Tensor], object]] = {
    "a tuple": lambda x: (x, x * 2),
    "a tuple of None and more": lambda x: (None, 3, (x, x * 2)),
    "a list": lambda x: [x, x * 2],
    "a dict": lambda x: {"labels": x.argmax(1), "scores": x},
    "a dataclass": lambda x: Output(3, None, x),
    "a ModelOutput": model_output,
    "a named tuple": lambda x: torch.return_types.max((x, x.argmax(1))),
}


@pytest.mark.parametrize("kind", NESTED)
def test_the_first_float_tensor_of(kind: str) -> None:
    model = nn.Sequential(Net(lambda m, x: NESTED[kind](x)))
    x = torch.randn(4, 3)
    got = tracked(model, x).stats()
    assert_rows(got, {"0": [x.double()]}, {"0": 1})
    with fmstats.track(model):
        assert type(model(x)) is type(NESTED[kind](x))


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (None, r"its output holds no tensor (NoneType)"),
        (3, r"its output holds no tensor (int)"),
        ("text", r"its output holds no tensor (str)"),
        ((), r"its output holds no tensor (tuple)"),
        (torch.arange(3), r"its output is int64"),
        (torch.tensor(2.0), r"its output is a single number"),
        (torch.zeros(0, 3), r"its output is empty"),
        (torch.zeros(2, 3, device="meta"), r"its output is on the meta device, without data"),
    ],
    ids=repr,
)
def test_outputs_without_channels_are_passed_on(output: object, reason: str) -> None:
    model = nn.Sequential(Net(lambda m, x: output))
    with fmstats.track(model) as tracker:
        assert model(torch.randn(2, 3)) is output
        assert len(tracker.stats()) == 0
    (row,) = tracker.coverage()
    assert (row.status, row.reason, row.calls) == ("skipped", reason, 0)


def test_a_model_on_the_meta_device() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).to("meta")
    tracker = tracked(model, torch.randn(2, 3, device="meta"))
    assert len(tracker.stats()) == 0
    assert {row.reason for row in tracker.coverage()} == {
        "its output is on the meta device, without data"
    }


def test_lists_and_dicts_of_modules() -> None:
    def forward(model: Net, x: Tensor) -> Tensor:
        for layer in model.layers:
            x = layer(x)
        return sum(head(x).sum() for head in model.heads.values())

    layers = nn.ModuleList([nn.Linear(4, 4), nn.ReLU(), nn.ModuleList()])
    del layers[2]
    heads = nn.ModuleDict({"b": nn.Linear(4, 2), "a": nn.Linear(4, 3)})
    model = Net(forward, layers=layers, empty=nn.ModuleList(), heads=heads)
    x = torch.randn(5, 4)
    seen, _ = captured(model, lambda: model(x))
    tracker = tracked(model, x)
    assert list(seen) == ["layers.0", "layers.1", "heads.b", "heads.a"]
    assert_rows(tracker.stats(), seen, dict.fromkeys(seen, 1))
    assert [r.status for r in tracker.coverage() if r.name == "empty"] == ["never fired"]


PARAMETRIZED: dict[str, tuple[Callable[[], nn.Module], Tensor, int]] = {
    "weight_norm": (
        lambda: parametrizations.weight_norm(nn.Conv1d(3, 6, 3)),
        torch.randn(2, 3, 9),
        1,
    ),
    "spectral_norm": (
        lambda: parametrizations.spectral_norm(nn.Linear(3, 6)),
        torch.randn(2, 5, 3),
        2,
    ),
    "orthogonal": (
        lambda: parametrizations.orthogonal(nn.Linear(3, 6)),
        torch.randn(2, 5, 3),
        2,
    ),
    "two of them": (
        lambda: parametrizations.spectral_norm(parametrizations.weight_norm(nn.Conv2d(3, 6, 3))),
        torch.randn(2, 3, 6, 6),
        1,
    ),
}


@pytest.mark.parametrize("kind", PARAMETRIZED)
def test_a_parametrized_layer_is_a_leaf(kind: str) -> None:
    make, x, dim = PARAMETRIZED[kind]
    model = nn.Sequential(make(), nn.ReLU()).eval()
    seen, _ = captured(model, lambda: model(x))
    tracker = tracked(model, x)
    assert list(seen) == ["0", "1"]
    assert_rows(tracker.stats(), seen, {"0": dim, "1": dim})
    assert [row.name for row in tracker.coverage()] == ["0", "1"]  # and no weight has a row
    assert tracked(model, x, include=type(model[0]).__mro__[1]).stats()["0"].channels == 6


def test_a_block_named_parametrizations_is_one_like_others() -> None:
    model = nn.ModuleDict({"parametrizations": nn.Sequential(nn.ReLU())})
    assert [row.name for row in fmstats.track(model).coverage()] == ["parametrizations.0"]


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_lazy_modules_before_their_first_batch() -> None:
    model = nn.Sequential(
        nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)
    )
    x = torch.randn(3, 3, 6, 6)
    with fmstats.track(model, warmup=True) as tracker:
        model(x)
        tracker.reset()
        seen, _ = captured(model.eval(), lambda: model(x))
    profile = tracker.stats()
    assert_rows(profile, seen, dict.fromkeys(seen, 1))
    assert profile.info["0"].type == "LazyConv2d"  # as it was when it was tracked


class LazyScale(nn.modules.lazy.LazyModuleMixin, nn.Module):
    """Lazy, and of no type that has a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.UninitializedParameter()

    def initialize_parameters(self, x: Tensor) -> None:
        self.weight.materialize((x.shape[-1],))
        nn.init.normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_a_lazy_module_of_its_own_kind() -> None:
    model = nn.Sequential(nn.Linear(3, 4), LazyScale())
    x = torch.randn(2, 7, 3)
    with fmstats.track(model) as tracker:
        seen, _ = captured(model, lambda: model(x))
    assert_rows(tracker.stats(), seen, {"0": 2, "1": 2})


def test_the_fast_path_of_a_transformer_layer() -> None:
    """PyTorch leaves it where there are hooks; attention calls no out_proj either way."""
    model = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True).eval()
    x = torch.randn(3, 7, 16)
    with torch.no_grad():
        fast = model(x)
        with fmstats.track(model) as tracker:
            slow = model(x)
        handle = model.norm2.register_forward_hook(lambda *_: None)
        hooked = model(x)
        handle.remove()
        seen, _ = captured(model, lambda: model(x))
    assert torch.equal(slow, hooked)  # another path, as with anybody's hooks
    assert torch.allclose(slow, fast, atol=1e-5)
    assert_rows(tracker.stats(), seen, dict.fromkeys(seen, 2))
    silent = [(row.name, row.status) for row in tracker.coverage() if not row.calls]
    assert silent == [("self_attn.out_proj", "never fired")]
    whole = tracked(model, x, include=nn.MultiheadAttention).stats()
    assert list(whole) == ["self_attn"]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_transformer_that_packs_what_is_not_padding() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(3, 7, 16)
    padding = torch.zeros(3, 7, dtype=torch.bool)
    padding[:, 5:] = True
    with torch.no_grad():
        plain = model(x, src_key_padding_mask=padding)
        with fmstats.track(model) as tracker:
            got = model(x, src_key_padding_mask=padding)
    assert torch.allclose(got, plain, atol=1e-5)
    reasons = {row.reason for row in tracker.coverage() if row.status == "skipped"}
    assert reasons == {"its output is a nested tensor"}
    assert len(tracker.stats()) == 0


def test_sums_and_concatenations_are_seen_at_their_blocks() -> None:
    model = Net(lambda m, x: m.dense(m.residual(x)), residual=ResidualBlock(4),
                dense=DenseBlock(4, 3)).eval()  # fmt: skip
    x = torch.randn(2, 4, 6, 7)
    blocks = {"residual": model.residual, "dense": model.dense}
    with torch.no_grad():
        seen, _ = captured(model, lambda: model(x), blocks)
    for include in (["residual", "dense"], [ResidualBlock, DenseBlock]):
        profile = tracked(model, x, include=include).stats()
        assert_rows(profile, seen, {"residual": 1, "dense": 1})
    assert [stats.channels for stats in profile.values()] == [4, 10]
    alone = tracked(model.residual, x, include="(model)").stats()
    assert_rows(alone, {"(model)": seen["residual"]}, {"(model)": 1})
    leaves = tracked(model, x).stats()
    assert "residual.act" in leaves
    assert leaves["residual.act"].never_active.sum() == 0


def test_a_module_replaced_after_track() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with torch.no_grad(), fmstats.track(model) as tracker:
        first = model[0](torch.randn(5, 3)).double()
        model[0] = nn.Linear(3, 9)
        y = model(torch.randn(5, 3)).double()
    profile = tracker.stats()
    assert_row(profile["0"], [first], 1)  # the old one's row stays
    assert_row(profile["1"], [y], 1)
    rows = tracker.coverage()
    assert [(row.status, row.calls) for row in rows] == [("tracked", 1), ("tracked", 1)]
    assert [row.reason for row in rows] == [
        "no longer in the model, replaced or removed: track() again to see it",
        None,
    ]
    assert tracked(model, torch.randn(5, 3)).stats()["0"].channels == 9


def test_copies_of_a_tracked_model_are_not_tracked() -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.randn(5, 3)
    with torch.no_grad(), fmstats.track(model) as tracker:
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other(x), model(x))
    assert tracker.stats()["0"].count.tolist() == [10] * 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_model_cast_after_track(dtype: torch.dtype, name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    x = torch.randn(2, 3, 6, 6)
    seen: dict[str, list[Tensor]] = {}
    with torch.no_grad(), fmstats.track(model, backend=name) as tracker:
        for each in (torch.float32, dtype, torch.float32):
            model.to(each)
            more, _ = captured(model, lambda each=each: model(x.to(each)))
            seen = {n: [*seen.get(n, []), *outputs] for n, outputs in more.items()}
            assert tracker.stats().info["0"].dtype == str(each).removeprefix("torch.")
    assert_rows(tracker.stats(), seen, dict.fromkeys(seen, 1))


def test_a_model_moved_after_track() -> None:
    """To the one other device there always is, and back."""
    model = nn.Sequential(nn.Linear(3, 4))
    with torch.no_grad(), fmstats.track(model) as tracker:
        want = model(torch.randn(5, 3)).double()
        model.to("meta")(torch.randn(5, 3, device="meta"))
        assert tracker.coverage()[0].reason == "its output is on the meta device, without data"
        model.to_empty(device="cpu").load_state_dict(nn.Sequential(nn.Linear(3, 4)).state_dict())
        again = model(torch.randn(5, 3)).double()
    assert_row(tracker.stats()["0"], [want, again], 1)
    assert tracker.coverage()[0].status == "tracked"


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.MaxPool2d(2)], ids=["ReLU", "MaxPool2d"])
def test_other_channels_have_a_row_of_their_own(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Sequential(layer))
    first, second = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
    with torch.no_grad(), fmstats.track(model) as tracker:
        for x in (first, second, first):
            model(x)
    profile = tracker.stats()
    assert list(profile) == ["0.0@3", "0.0@5"]
    assert_row(profile["0.0@3"], [model(first).double()] * 2, 1)
    assert_row(profile["0.0@5"], [model(second).double()], 1)


def test_leaves_of_is_what_track_takes() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.Sequential(nn.ReLU()))
    rows = [row.name for row in fmstats.track(model).coverage()]
    assert [name for name, _ in leaves_of(model)] == rows


class Refusing(nn.Module):
    """Fails for all that a module need not have."""

    def __getattr__(self, name: str) -> object:
        if name in ("_modules", "_parameters", "_buffers"):
            return super().__getattr__(name)
        raise KeyError(name)

    def forward(self, x: Tensor) -> Tensor:
        return x


class Unbuilt(nn.Module):
    """Has properties that cannot be read yet, and no text."""

    @property
    def weight(self) -> Tensor:
        raise RuntimeError("not built")

    @property
    def out_channels(self) -> int:
        raise ValueError("not known")

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = nn.Module.__hash__

    def forward(self, x: Tensor) -> Tensor:
        return x


class Odd(nn.Module):
    """What others read as numbers is something else; loses and gains parts as it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.out_channels, self.normalized_shape = "text", "many", 3.5
        self.once = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "once"):
            x = self.once(x)
            del self.once
        self.late = nn.Identity()
        return self.late(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("of", ["output", "input", "grad_output"])
@pytest.mark.parametrize("options", [{}, {"per_call": True}, {"budget": 0.5}], ids=str)
@pytest.mark.parametrize("kind", [Refusing, Unbuilt, Odd])
def test_modules_of_which_little_can_be_read(
    kind: type[nn.Module], of: str, options: dict[str, object]
) -> None:
    model = nn.ModuleDict({"odd": kind(), "plain": nn.Linear(3, 3)})
    x = torch.randn(2, 3, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fmstats.track(model, of=of, **options) as tracker:  # type: ignore[arg-type]
            for _ in range(2):
                y = model["odd"](x)
                y.sum().backward()
            assert repr(tracker)
            assert str(tracker.coverage())
            assert len(tracker.stats()) >= 1
