"""`track` as people use it: the numbers, the switches, and an unchanged model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.backends import BACKENDS
from fmstats.errors import FmstatsError
from fmstats.models.wrappers import hash_structure
from fmstats.profiles.profile import Profile
from fmstats.profiles.row_names import MOST_CALLS

NAMES = [b.name for b in BACKENDS if b.why_not() is None]


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(72, 5),
    )


def images(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 9, 9)


def captured(model: nn.Module, batches: list[Tensor]) -> dict[str, list[Tensor]]:
    """The outputs of every leaf, in float64, by plain hooks."""
    seen: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda m, args, y: seen.setdefault(name, []).append(y.detach().double().clone())

    leaves = [(n, m) for n, m in model.named_modules() if not list(m.children())]
    handles = [m.register_forward_hook(keep(n)) for n, m in leaves]
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    return seen


def by_channel(outputs: list[Tensor], dim: int = 1) -> Tensor:
    return torch.cat([y.movedim(dim, 0).flatten(1) for y in outputs], 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_numbers_are_those_of_the_outputs(name: str, dtype: torch.dtype) -> None:
    model = conv_net().eval().to(dtype)
    batches = [images(n).to(dtype) for n in (3, 1, 4)]
    want = captured(model, batches)
    with torch.no_grad(), fmstats.track(model, backend=name) as tracker:
        for batch in batches:
            model(batch)
    profile = tracker.stats()
    assert list(profile) == list(want)
    accuracy = 1e-12 if dtype == torch.float64 else 1e-6
    for layer, outputs in want.items():
        x, stats = by_channel(outputs), profile[layer]
        std = x.std(1).numpy()
        assert (np.abs(stats.mean - x.mean(1).numpy()) <= accuracy * std).all(), layer
        assert stats.var == pytest.approx(x.var(1).numpy(), rel=2 * accuracy), layer
        assert stats.min.tolist() == x.amin(1).tolist()
        assert stats.max.tolist() == x.amax(1).tolist()
        assert stats.zeros.tolist() == (x == 0).sum(1).tolist()
        assert stats.count.tolist() == [x.shape[1]] * len(x)
        info = profile.info[layer]
        assert (info.backend, info.calls, info.channel_dim) == (name, 3, 1)
        assert info.dtype == str(dtype).removeprefix("torch.")
        assert info.shape == tuple(outputs[-1].shape)
        assert info.type == type(model.get_submodule(layer)).__name__


def test_zero_tol() -> None:
    model, x = nn.Identity(), torch.tensor([[0.0, 0.1], [-0.1, 0.2], [0.05, 0.1000001]])
    with fmstats.track(model, zero_tol=0.1) as tracker:
        model(x)
    want = (x.double().abs() <= 0.1).sum(0).tolist()
    assert tracker.stats()["(model)"].zeros.tolist() == want


def test_before_an_in_place_relu() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)).eval()
    x = images()
    produced = model[0](x).double()
    with torch.no_grad(), fmstats.track(model) as tracker:
        model(x)
    profile = tracker.stats()
    assert produced.amin() < 0
    assert profile["0"].min.tolist() == produced.amin((0, 2, 3)).tolist()
    assert profile["0"].zeros.sum() == 0
    assert profile["1"].min.tolist() == [0.0] * 4
    assert profile["1"].zeros.tolist() == (produced <= 0).sum((0, 2, 3)).tolist()


def test_of_input() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(inplace=True))
    x = torch.randn(7, 3)
    with torch.no_grad():
        hidden = model[0](x)
        with fmstats.track(model, of="input") as tracker:
            model(x)
    profile = tracker.stats()
    assert profile["0"].max.tolist() == x.amax(0).tolist()
    assert profile["1"].min.tolist() == hidden.amin(0).tolist()  # before it is clamped in place
    assert profile.metadata["of"] == "input"


class Scale(nn.Module):
    def forward(self, *, factor: int, x: Tensor) -> dict[str, Tensor]:
        return {"y": factor * x}


def test_of_input_by_keyword() -> None:
    model, x = Scale(), torch.randn(7, 3)
    with fmstats.track(model, of="input") as inputs, fmstats.track(model) as outputs:
        model(factor=2, x=x)
    assert inputs.stats()["(model)"].max.tolist() == x.amax(0).tolist()
    assert outputs.stats()["(model)"].max.tolist() == (2 * x).amax(0).tolist()


def test_every() -> None:
    model = nn.Sequential(nn.Identity())
    with fmstats.track(model, every=3) as tracker:
        for i in range(8):
            model(torch.full((1, 2), float(i)))
    profile = tracker.stats()
    assert profile["0"].mean.tolist() == [3.0, 3.0]  # of 0, 3, 6
    assert profile["0"].count.tolist() == [3, 3]
    assert (profile.metadata["passes"], profile.metadata["passes_measured"]) == (8, 3)


def test_pause_resume_reset_close() -> None:
    model = nn.Sequential(nn.Identity())

    def run(value: float) -> None:
        model(torch.full((1, 2), float(value)))

    def seen() -> tuple[float, int]:
        stats = tracker.stats()["0"]
        return float(stats.max[0]), int(stats.count[0])

    tracker = fmstats.track(model)
    run(1)
    tracker.pause()
    run(50)
    assert seen() == (1.0, 1)
    assert repr(tracker) == "Tracker(Sequential, 1 layers, 1 passes, paused)"
    tracker.resume()
    run(2)
    assert seen() == (2.0, 2)
    tracker.reset()
    assert len(tracker.stats()) == 0
    assert tracker.stats().metadata["passes"] == 0
    run(-1)
    assert seen() == (-1.0, 1)
    assert repr(tracker) == "Tracker(Sequential, 1 layers, 1 passes, on)"
    tracker.close()
    tracker.close()
    run(60)
    assert seen() == (-1.0, 1)
    assert repr(tracker) == "Tracker(Sequential, 1 layers, 1 passes, closed)"
    assert tracker.coverage()[0].status == "tracked"


@pytest.mark.parametrize("warmup", [False, True])
def test_kernels_are_compiled_before_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, warmup: bool
) -> None:
    model, warmed = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), []
    monkeypatch.setattr(
        "fmstats.tracking.track.warm_up", lambda model, specs: warmed.append((model, list(specs)))
    )
    fmstats.track(model, include="1", warmup=warmup)
    assert warmed == ([(model, ["1"])] if warmup else [])


@pytest.mark.parametrize("per_call", [False, True])
def test_it_tells_how_it_is(per_call: bool) -> None:
    model = nn.Sequential(nn.ReLU(), nn.ReLU())
    tracker = fmstats.track(model, per_call=per_call)
    assert repr(tracker) == "Tracker(Sequential, 2 layers, 0 passes, on)"
    model(torch.ones(1, 2))
    tracker.pause()
    assert repr(tracker) == "Tracker(Sequential, 2 layers, 1 passes, paused)"
    tracker.resume()
    assert repr(tracker) == "Tracker(Sequential, 2 layers, 1 passes, on)"
    tracker.pause()
    tracker.close()
    assert repr(tracker) == "Tracker(Sequential, 2 layers, 1 passes, closed)"


def test_a_reset_begins_every_anew() -> None:
    model = nn.Identity()
    with fmstats.track(model, every=2) as tracker:
        model(torch.zeros(1, 2))
        tracker.reset()
        model(torch.ones(1, 2))
    assert tracker.stats()["(model)"].mean.tolist() == [1.0, 1.0]


def test_a_module_called_twice() -> None:
    act = nn.ReLU()
    model = nn.Sequential(act, nn.Linear(3, 3), act).eval()
    x = torch.randn(5, 3)
    with torch.no_grad():
        first, last = x.relu().double(), model(x).double()
        with fmstats.track(model) as whole, fmstats.track(model, per_call=True) as apart:
            model(x)
    together = torch.cat([first, last])
    assert list(whole.stats()) == ["0", "1"]
    assert whole.stats()["0"].count.tolist() == [10] * 3
    assert whole.stats().info["0"].calls == 2
    assert whole.stats()["0"].mean == pytest.approx(together.mean(0).numpy(), rel=1e-6)
    rows = apart.stats()
    assert list(rows) == ["0#0", "1#0", "0#1"]  # as they ran
    assert rows["0#0"].max.tolist() == first.amax(0).tolist()
    assert rows["0#1"].max.tolist() == last.amax(0).tolist()


def test_per_call_adds_up_over_passes() -> None:
    act = nn.ReLU()
    model = nn.Sequential(act, act)
    with fmstats.track(model, per_call=True) as tracker:
        for n in (2, 3):
            model(torch.randn(n, 4))
        tracker.pause()
        model(torch.randn(9, 4))
        tracker.resume()
        model(torch.randn(1, 4))
    profile = tracker.stats()
    assert {name: s.count.tolist() for name, s in profile.items()} == {
        "0#0": [6] * 4,
        "0#1": [6] * 4,
    }


def test_rows_are_in_the_order_of_execution() -> None:
    model = nn.ModuleDict({"last": nn.ReLU(), "first": nn.Linear(3, 2)})
    model.forward = lambda x: model["last"](model["first"](x))  # type: ignore[method-assign]
    with fmstats.track(model) as tracker:
        model(torch.randn(2, 3))
    assert list(tracker.stats()) == ["first", "last"]


def test_a_part_called_on_its_own_is_seen() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    with fmstats.track(model) as tracker:
        model[0](torch.randn(4, 3))
    assert list(tracker.stats()) == ["0"]
    assert tracker.stats().metadata["passes"] == 0


def test_two_trackers_at_once() -> None:
    model = nn.Sequential(nn.Identity())
    one = fmstats.track(model)
    model(torch.ones(1, 2))
    two = fmstats.track(model, every=2)
    model(torch.ones(1, 2) * 2)
    model(torch.ones(1, 2) * 3)
    one.close()
    model(torch.ones(1, 2) * 4)
    assert one.stats()["0"].count.tolist() == [3, 3]
    assert one.stats()["0"].max.tolist() == [3.0, 3.0]
    assert two.stats()["0"].count.tolist() == [2, 2]
    assert two.stats()["0"].max.tolist() == [4.0, 4.0]
    two.close()


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_bit_identical(mode: Callable[[], object], name: str) -> None:
    model, x = conv_net().eval(), images()
    with mode():  # type: ignore[attr-defined]
        want = model(x)
        with fmstats.track(model, backend=name):
            got = model(x)
    assert torch.equal(want, got)
    assert (got.requires_grad, got.is_inference()) == (want.requires_grad, want.is_inference())


def test_training_is_unchanged() -> None:
    def train(tracked: bool) -> tuple[dict[str, Tensor], list[Tensor]]:
        torch.manual_seed(1)
        model = nn.Sequential(conv_net(), nn.Dropout(), nn.ReLU(inplace=True))
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        tracker = fmstats.track(model) if tracked else None
        for _ in range(3):
            sgd.zero_grad()
            model(images()).square().sum().backward()
            sgd.step()
        if tracker is not None:
            assert tracker.stats()["0.0"].count.tolist() == [3 * 3 * 49] * 6
        return model.state_dict(), [p.grad for p in model.parameters() if p.grad is not None]

    (plain, plain_grads), (tracked, tracked_grads) = train(False), train(True)
    assert all(torch.equal(plain[k], tracked[k]) for k in plain)
    assert all(map(torch.equal, plain_grads, tracked_grads))


@pytest.mark.parametrize("name", NAMES)
def test_one_tracker_through_every_mode(name: str) -> None:
    model, x = conv_net().eval(), images()
    with fmstats.track(model, backend=name) as tracker:
        for mode in (torch.inference_mode, torch.enable_grad, torch.no_grad, torch.inference_mode):
            with mode():
                model(x)
        tracker.reset()
        model(x)
    assert tracker.stats()["0"].count.tolist() == [3 * 49] * 6


def test_tracking_holds_no_graph() -> None:
    model, x = nn.Linear(3, 2), torch.randn(4, 3)
    with fmstats.track(model) as tracker:
        model(x)
    assert not tracker.stats()["(model)"].state.words.requires_grad


def test_a_batch_of_nan_loses_nothing() -> None:
    model, x = conv_net().eval(), images()
    with torch.no_grad(), fmstats.track(model) as tracker:
        model(x)
        clean = tracker.stats()
        model(torch.full_like(x, float("nan")))
        spoilt = tracker.stats()
        model(x)
        again = tracker.stats()
    for layer in clean:
        for field in ("mean", "var", "min", "max", "zeros", "finite_count"):
            kept, now = getattr(clean[layer], field), getattr(spoilt[layer], field)
            assert np.array_equal(kept, now), (layer, field)
        assert (spoilt[layer].nan == clean[layer].count).all()
        assert again[layer].mean == pytest.approx(clean[layer].mean, rel=1e-5, abs=1e-7)
        assert (again[layer].finite_count == 2 * clean[layer].count).all()


def test_other_channels_between_calls() -> None:
    model, batches = nn.Sequential(nn.Identity()), [torch.randn(2, c, 4, 4) for c in (3, 5, 3)]
    with fmstats.track(model) as tracker:
        model(batches[0])
        assert [*tracker.stats()] == ["0"]
        for x in batches[1:]:
            assert model(x) is x
    profile = tracker.stats()
    assert {name: stats.count.tolist() for name, stats in profile.items()} == {
        "0@3": [64] * 3,
        "0@5": [32] * 5,
    }
    assert {(row.layer, row.call) for row in profile.info.values()} == {("0", None)}
    assert tracker.coverage()[0].calls == 3


def test_on_error_warn() -> None:
    """By default: the model goes on as without a tracker, what was counted stays."""
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    x = torch.randn(2, 5, 4)
    with fmstats.track(model, channel_dim=3) as tracker:
        model(torch.randn(2, 5, 4, 3))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            outputs = [model(x) for _ in range(3)]
    assert all(torch.equal(y, x.relu()) for y in outputs)
    assert [str(w.message)[:44] for w in caught] == [
        "fmstats no longer measures layer '0' (Identi",
        "fmstats no longer measures layer '1' (ReLU):",
    ]
    assert {w.category for w in caught} == {RuntimeWarning}
    assert tracker.stats()["0"].count.tolist() == [40] * 3
    row = tracker.coverage()[0]
    assert row.reason is not None
    assert row.reason.startswith("disabled after an error: channel_dim=3 is not a dim of a tensor")
    with (
        fmstats.track(model, channel_dim=3, on_error="raise"),
        pytest.raises(
            FmstatsError, match=r"^layer '0' \(Identity\): channel_dim=3 is not a dim of"
        ),
    ):
        model(x)


def test_float_layers_beside_skipped_ones() -> None:
    class Top(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.argmax(1), x

    model = nn.Sequential(nn.Linear(3, 4), Top())
    with fmstats.track(model) as tracker:
        model(torch.randn(2, 3))
    assert list(tracker.stats()) == ["0", "1"]  # the scores beside the labels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": "gradient"}, r"^of='gradient': choose 'output' or 'input' or 'grad_output'$"),
        ({"on_error": "ignore"}, r"^on_error='ignore': choose 'raise' or 'warn'$"),
        ({"every": 0}, r"^every=0: give a whole number, 1 or more$"),
        ({"every": 2.0}, r"^every=2\.0: give a whole number"),
        ({"backend": "gpu"}, r"^no backend is called 'gpu'; usable here: auto, .*torch"),
        ({"zero_tol": -1.0}, r"^zero_tol must be finite and not negative, got -1\.0"),
        ({"zero_tol": "1"}, r"^zero_tol"),
    ],
)
def test_unknown_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(FmstatsError, match=message):
        fmstats.track(nn.ReLU(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", [torch.randn(3), nn.ReLU, None, "resnet50"])
def test_other_things_than_modules(model: object) -> None:
    with pytest.raises(FmstatsError, match=r"^track\(\) takes a torch\.nn\.Module, got "):
        fmstats.track(model)  # type: ignore[arg-type]


def test_metadata() -> None:
    model = conv_net()
    with fmstats.track(model, every=2) as tracker:
        pass
    assert tracker.stats().metadata == {
        "model": "Sequential",
        "structure": hash_structure(model),
        "of": "output",
        "when": "always",
        "every": 2,
        "per_call": False,
        "masked": False,
        "fmstats": fmstats.__version__,
        "torch": torch.__version__,
        "passes": 0,
        "passes_measured": 0,
        "backends": {},
    }


def test_nothing_seen_says_so() -> None:
    assert str(fmstats.track(nn.ReLU()).stats()) == "no layer was measured: see coverage()"


class Branches(nn.Module):
    """Calls one layer twice, and another one only with large numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.often, self.seldom = nn.Softplus(), nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        x = self.often(self.often(x))
        return self.seldom(x) if x.max() > 50 else x


@pytest.mark.parametrize("per_call", [False, True])
@pytest.mark.parametrize("cut", [0, 2, 5])
def test_restored_it_goes_on_with_the_same_bits(cut: int, per_call: bool) -> None:
    torch.manual_seed(1)
    model = Branches()
    data = [torch.randn(4, 3) + 60 * (i % 2) for i in range(5)]
    with fmstats.track(model, per_call=per_call) as whole:
        for x in data:
            model(x)
    want = whole.stats()
    with fmstats.track(model, per_call=per_call) as before:
        for x in data[:cut]:
            model(x)
    with fmstats.track(model, per_call=per_call) as after:
        after.restore(before.stats())
        assert [*after.stats()] == [*before.stats()]
        for x in data[cut:]:
            model(x)
    got = after.stats()
    assert [*got] == [*want]
    for name, stats in want.items():
        assert torch.equal(got[name].state.words, stats.state.words), name
        mine, theirs = ({**vars(p.info[name]), "stats": None} for p in (got, want))
        assert mine == theirs
    assert got.metadata["passes"] == want.metadata["passes"] == 5
    after.reset()
    assert len(after.stats()) == 0


def test_restoring_leaves_the_profile_alone() -> None:
    model = nn.ReLU()
    with fmstats.track(model) as first:
        model(torch.ones(2, 3))
    profile = first.stats()
    with fmstats.track(model) as second:
        second.restore(profile)
        model(torch.ones(2, 3))
    assert profile["(model)"].count.tolist() == [2, 2, 2]
    assert second.stats()["(model)"].count.tolist() == [4, 4, 4]


def test_what_cannot_be_restored() -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU6()), torch.ones(2, 3)
    with fmstats.track(model) as tracker:
        model(x)
    profile = tracker.stats()
    with pytest.raises(FmstatsError, match=r"for a tracker that has seen nothing: reset\(\) it fi"):
        tracker.restore(profile)
    for options, message in (
        ({"of": "input"}, "restore a profile into a tracker made with of='output' and of='input'"),
        ({"include": nn.ReLU6}, "cannot restore layer '0': this tracker does not measure it"),
        ({"zero_tol": 0.5}, "layer '0': it was counted with Thresholds.*, this tracker's are Thr"),
    ):
        with fmstats.track(model, **options) as other:  # type: ignore[arg-type]
            with pytest.raises(FmstatsError, match=message):
                other.restore(profile)
            assert len(other.stats()) == 0
    another = nn.Sequential(nn.Linear(3, 5), nn.ReLU6())
    with fmstats.track(another) as other:
        with pytest.raises(FmstatsError, match="of another model"):
            other.restore(profile)
        assert other.stats().metadata["passes"] == 0


def test_a_tracker_that_was_reset_is_restored_as_a_new_one() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    data = [5 + torch.randn(9, 6) for _ in range(4)]
    with fmstats.track(model) as before, fmstats.track(model, include="1") as part:
        for x in data[:2]:
            model(x)
    profiles = before.stats(), part.stats()
    for profile in profiles:
        with fmstats.track(model) as used:
            model(100 * data[0])
            used.reset()
            with fmstats.track(model) as fresh:
                for tracker in (used, fresh):
                    tracker.restore(profile)
                for x in data[2:]:
                    model(x)
        got, want = used.stats(), fresh.stats()
        assert [*got] == [*want]
        for name in want:
            assert torch.equal(got[name].state.words, want[name].state.words)


def test_a_reset_forgets_shapes_and_backends() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    relu = model[1]
    with fmstats.track(model, backend="reference") as other:
        model(torch.randn(2, 5, 8))
    with fmstats.track(model) as tracker, fmstats.track(model) as fresh:
        tracker.restore(other.stats())
        tracker.reset()
        fresh.pause()
        relu(torch.randn(2, 5, 8))
        tracker.reset()
        fresh.resume()
        relu(torch.randn(2, 8, 5))
    got, want = tracker.stats().info["1"], fresh.stats().info["1"]
    assert (got.channel_dim, got.shape, got.backend) == (want.channel_dim, want.shape, want.backend)


def test_restoring_other_channel_dims_is_refused() -> None:
    model, x = nn.ReLU(), torch.randn(2, 4, 4)
    with fmstats.track(model, channel_dim=1) as tracker:
        model(x)
    profile = tracker.stats()
    with fmstats.track(model, channel_dim=2) as other:
        with pytest.raises(
            FmstatsError,
            match=r"'\(model\)': its channels were dim 1 of 3 dims, here they are dim 2$",
        ):
            other.restore(profile)
        assert len(other.stats()) == 0


def test_names_with_the_sign_of_calls() -> None:
    model = nn.Sequential()
    model.add_module("a#1", nn.ReLU())
    with fmstats.track(model) as tracker:
        model(torch.ones(2, 3))
    empty = fmstats.track(model)
    empty.restore(tracker.stats())
    empty.close()
    assert [*empty.stats()] == ["a#1"]


def test_rows_after_a_restore_come_after_those_restored() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Identity(), nn.Tanh())
    with fmstats.track(model, include=["1", "2"]) as part:
        model(torch.ones(2, 3))
    with fmstats.track(model) as tracker:
        tracker.restore(part.stats())
        model(torch.ones(2, 3))
    assert [*tracker.stats()] == ["1", "2", "0"]


@pytest.mark.parametrize("dim", [1, -2])
def test_a_dim_counted_from_the_end_is_the_same_dim(dim: int) -> None:
    model, x = nn.ReLU(), torch.randn(2, 4, 4)
    with fmstats.track(model, channel_dim=1) as tracker:
        model(x)
    with fmstats.track(model, channel_dim=dim) as other:
        other.restore(tracker.stats())
    assert other.stats().to_dict()["layers"] == tracker.stats().to_dict()["layers"]


def test_a_profile_that_tells_no_structure_is_restored() -> None:
    model = nn.Sequential(nn.Linear(3, 4))
    with fmstats.track(model) as tracker:
        model(torch.ones(2, 3))
    profile = tracker.stats()
    del profile.metadata["structure"]
    with fmstats.track(model) as other:
        other.restore(profile)
    assert [*other.stats()] == ["0"]


@pytest.mark.parametrize(
    "name", ["0#00", "0#01", "0#" + "9" * 5000, "0#\u0663", f"0#{MOST_CALLS}", "0", "0#-1", "1#0"]
)
def test_names_of_no_call_are_not_restored(name: str) -> None:
    model = nn.Sequential(nn.ReLU())
    with fmstats.track(model, per_call=True) as tracker:
        model(torch.ones(2, 3))
    profile = tracker.stats()
    (row,) = profile.info.values()
    with fmstats.track(model, per_call=True) as other:
        for told in (row, replace(row, layer=None, call=None)):
            wrong = Profile({name: told}, profile.metadata)
            with pytest.raises(FmstatsError, match=r"^cannot restore layer '[01].*measure it"):
                other.restore(wrong)
        beyond = {f"0#{MOST_CALLS}": replace(row, call=MOST_CALLS)}
        with pytest.raises(FmstatsError, match="does not measure it"):
            other.restore(Profile(beyond, profile.metadata))
        model(torch.ones(2, 3))
    assert [*other.stats()] == ["0#0"]
