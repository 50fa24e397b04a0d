"""Weights, gradients and updates in training, against plain torch in float64."""

from __future__ import annotations

import copy
import gc
import pickle
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats import FmstatsError, Profile

OPTIMIZERS: dict[str, Callable[[object], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "AdamW, foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
}


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)
    )


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 4) -> Iterator[None]:
    """Make steps; it stops after each backward pass, and before the first step."""
    torch.manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 8, 8)).square().mean().backward()
        yield
        optimizer.step()


def by_channel(x: Tensor) -> Tensor:
    return x.detach().double().reshape(len(x), -1)


def assert_is(stats: fmstats.ChannelStats, tensors: list[Tensor]) -> None:
    """Statistics are those of these tensors, one behind the other."""
    x = torch.cat([by_channel(tensor) for tensor in tensors], 1)
    np.testing.assert_array_equal(stats.count, x.shape[1])
    np.testing.assert_array_equal(stats.zeros, (x == 0).sum(1))
    np.testing.assert_array_equal(stats.min, x.amin(1))
    np.testing.assert_array_equal(stats.max, x.amax(1))
    np.testing.assert_allclose(stats.mean, x.mean(1), atol=1e-6 * float(x.std() + 1e-30))
    np.testing.assert_allclose(stats.variance(0), x.var(1, correction=0), rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_numbers_are_those_of_plain_torch(kind: str) -> None:
    model = make_model()
    optimizer = OPTIMIZERS[kind](model.parameters())
    seen: dict[str, list[Tensor]] = {}
    with fmstats.track_parameters(model, optimizer) as tracker:
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.randn(4, 3, 8, 8)).square().mean().backward()
            before = {name: p.detach().clone() for name, p in model.named_parameters()}
            optimizer.step()
            for name, parameter in model.named_parameters():
                assert parameter.grad is not None
                seen.setdefault(name, []).append(before[name])
                seen.setdefault(f"{name}/gradient", []).append(parameter.grad.clone())
                seen.setdefault(f"{name}/update", []).append(parameter.detach() - before[name])
    profile = tracker.stats()
    assert set(profile) == set(seen)
    for name, tensors in seen.items():
        assert_is(profile[name], tensors)
    assert profile.metadata["steps"] == profile.metadata["steps_measured"] == 4
    assert profile.metadata["of"] == "parameters"


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_training_is_the_same_bit_for_bit(kind: str) -> None:
    weights = []
    for tracked in (False, True):
        model = make_model()
        optimizer = OPTIMIZERS[kind](model.parameters())
        if tracked:
            with fmstats.track_parameters(model, optimizer):
                list(train(model, optimizer))
        else:
            list(train(model, optimizer))
        weights.append([p.detach().clone() for p in model.parameters()])
    for plain, watched in zip(*weights, strict=True):
        assert torch.equal(plain, watched)


def run(steps: int = 4, **options: object) -> Profile:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with fmstats.track_parameters(model, optimizer, **options) as tracker:
        list(train(model, optimizer, steps))
    return tracker.stats()


def test_ratios_are_of_the_same_steps() -> None:
    profile = run()
    ratios, channels = profile.update_ratios(), profile.update_ratios(by="channel")
    assert list(ratios) == [name for name, _ in make_model().named_parameters()]
    update, weight = profile["0.weight/update"], profile["0.weight"]
    np.testing.assert_array_equal(channels["0.weight"], update.rms / weight.rms)
    whole = update.pooled().rms[0] / weight.pooled().rms[0]
    assert ratios["0.weight"] == pytest.approx(whole, rel=1e-12)
    assert 0 < ratios["0.weight"] < 0.2
    with pytest.raises(FmstatsError, match="choose 'parameter' or 'channel'"):
        profile.update_ratios(by="layer")
    with pytest.raises(FmstatsError, match="has measured weights and updates; this one has neit"):
        run(of="weight").update_ratios()


def test_every_so_many_steps() -> None:
    profile = run(steps=7, every=3)
    assert (profile.metadata["steps"], profile.metadata["steps_measured"]) == (7, 3)
    assert {row.calls for row in profile.info.values()} == {3}


def test_halves_merge_to_the_whole(tmp_path: object) -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    halves = []
    with (
        fmstats.track_parameters(model, optimizer) as whole,
        fmstats.track_parameters(model, optimizer) as half,
    ):
        for number, _ in enumerate(train(model, optimizer)):
            if number == 2:
                halves.append(half.stats())
                half.reset()
    halves.append(half.stats())
    fmstats_file = f"{tmp_path}/half.fmstats"
    halves[0].save(fmstats_file)
    together = fmstats.load(fmstats_file) | halves[1]
    for name, stats in whole.stats().items():
        for field in ("count", "zeros", "min", "max"):
            np.testing.assert_array_equal(getattr(together[name], field), getattr(stats, field))
        np.testing.assert_allclose(together[name].std, stats.std, rtol=1e-7)
    assert together.metadata["steps"] == 4


def test_channels_are_output_channels() -> None:
    model = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 8, 3),
            "up": nn.ConvTranspose2d(8, 4, 2),
            "table": nn.Embedding(10, 6),
            "linear": nn.Linear(6, 5),
            "norm": nn.LayerNorm(6),
        }
    )
    model.register_parameter("scale", nn.Parameter(torch.ones(())))
    tracker = fmstats.track_parameters(model)
    tracker.measure()
    found = {
        name: (row.stats.channels, row.channel_dim) for name, row in tracker.stats().info.items()
    }
    assert found == {
        "scale": (1, None),
        "conv.weight": (8, 0),
        "conv.bias": (8, 0),
        "up.weight": (4, 1),
        "up.bias": (4, 0),
        "table.weight": (6, 1),
        "linear.weight": (5, 0),
        "linear.bias": (5, 0),
        "norm.weight": (6, 0),
        "norm.bias": (6, 0),
    }


def test_frozen_parameters_and_those_that_the_optimizer_lacks() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    with fmstats.track_parameters(model, optimizer) as tracker:
        model(torch.randn(8, 4)).sum().backward()
        optimizer.step()
    types = {name: row.type for name, row in tracker.stats().info.items()}
    assert types["0.weight"] == types["1.weight"] == "frozen parameter"
    assert types["0.weight/update"] == types["1.weight/update"] == "frozen update"
    assert "0.weight/gradient" not in types
    assert types["2.weight/gradient"] == "gradient"
    assert tracker.stats()["1.weight/update"].never_active.all()


def test_tied_weights_count_once_and_names_lack_wrappers() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    tracker = fmstats.track_parameters(torch.nn.DataParallel(model))
    tracker.measure()
    assert list(tracker.stats()) == ["0.weight"]


def test_parametrized_weights() -> None:
    model = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    tracker = fmstats.track_parameters(model)
    tracker.measure()
    assert list(tracker.stats()) == [
        "bias",
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    ]


def test_what_cannot_be_measured_is_told() -> None:
    model = nn.Sequential(nn.Embedding(10, 4, sparse=True), nn.Linear(4, 2))
    model.register_parameter("codes", nn.Parameter(torch.ones(3, dtype=torch.int8), False))
    model.register_parameter("wave", nn.Parameter(torch.ones(3, dtype=torch.complex64)))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.is_floating_point()], lr=0.1)
    with fmstats.track_parameters(model, optimizer) as tracker:
        model(torch.tensor([1, 2])).sum().backward()
        optimizer.step()
    told = {row.name: (row.status, row.reason) for row in tracker.coverage()}
    assert told["codes"] == ("skipped", "is int8")
    assert told["wave"] == ("skipped", "is complex64")
    assert told["0.weight/gradient"] == ("skipped", "is sparse_coo, not strided")
    assert told["0.weight"] == ("tracked", None)
    assert "0.weight/gradient" not in tracker.stats()
    missing = [row["name"] for row in tracker.stats().metadata["coverage"]]
    assert missing == ["codes", "wave", "0.weight/gradient"]


def test_a_closure_makes_the_gradients_that_are_measured() -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)
    x = torch.randn(8, 4)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    with fmstats.track_parameters(model, optimizer) as tracker:
        optimizer.step(closure)
    assert model.weight.grad is not None
    assert_is(tracker.stats()["weight/gradient"], [model.weight.grad])


def test_gradients_of_a_scaler_are_unscaled() -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with fmstats.track_parameters(model, optimizer) as tracker:
        scaler.scale(model(torch.ones(8, 4)).sum()).backward()
        scaler.step(optimizer)
    np.testing.assert_array_equal(tracker.stats()["weight/gradient"].mean, [8.0, 8.0])


def test_pause_reset_and_close() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tracker = fmstats.track_parameters(model, optimizer)
    list(train(model, optimizer, 1))
    tracker.pause()
    list(train(model, optimizer, 2))
    tracker.resume()
    list(train(model, optimizer, 1))
    assert (tracker.steps, tracker.steps_measured) == (4, 2)
    tracker.reset()
    assert len(tracker.stats()) == 0
    list(train(model, optimizer, 1))
    assert {row.calls for row in tracker.stats().info.values()} == {1}
    tracker.close()
    tracker.close()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    list(train(model, optimizer, 1))
    assert tracker.steps == 1


def test_a_tracker_that_nobody_holds_leaves_no_hook() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fmstats.track_parameters(model, optimizer)
    gc.collect()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_model_and_optimizer_can_be_copied_and_saved() -> None:
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters())
    with fmstats.track_parameters(model, optimizer):
        list(train(model, optimizer, 1))
        copy.deepcopy(model)
        pickle.loads(pickle.dumps(optimizer.state_dict()))
        pickle.loads(pickle.dumps(model))


def test_a_step_that_fails_keeps_what_was_counted() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with fmstats.track_parameters(model, optimizer) as tracker:
        list(train(model, optimizer, 1))

        def fail() -> float:
            raise RuntimeError("no loss")

        with pytest.raises(RuntimeError, match="no loss"):
            optimizer.step(fail)
        list(train(model, optimizer, 1))
    profile = tracker.stats()
    assert profile.info["0.weight/update"].calls == 2
    assert profile.metadata["steps_measured"] == 2


def test_selection() -> None:
    assert list(run(include="0.*", of="weight")) == ["0.weight", "0.bias"]
    assert list(run(exclude=["*.bias", re.compile("^1")], of="weight")) == ["0.weight", "4.weight"]
    matrices = run(include=lambda name, p: p.dim() > 1, of=("gradient",))
    assert list(matrices) == ["0.weight/gradient", "4.weight/gradient"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": "0.wieght"}, "'0.wieght' matches none of the parameters; closest: 0.weight"),
        ({"exclude": "*"}, "leave none of 6"),
        ({"include": 3}, "cannot select parameters by 3|not iterable"),
        ({"of": "grad"}, "of='grad': choose some of weight, gradient, update"),
        ({"of": ()}, "choose some of weight"),
        ({"every": 0}, "every=0: give a whole number, 1 or more"),
        ({"zero_tol": -1.0}, "zero_tol must be finite and not negative"),
        ({"backend": "quantum"}, "quantum"),
    ],
)
def test_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises((FmstatsError, TypeError), match=message):
        run(**options)


def test_optimizers_are_checked() -> None:
    model = make_model()
    with pytest.raises(FmstatsError, match=r"the optimizer \(SGD\) has none of the parameters"):
        fmstats.track_parameters(model, torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1))
    with pytest.raises(FmstatsError, match=r"optimizer is of type float: give a torch\.optim"):
        fmstats.track_parameters(model, 0.1)  # type: ignore[arg-type]
    with pytest.raises(FmstatsError, match="of='update' needs an optimizer"):
        fmstats.track_parameters(model, of="update")
