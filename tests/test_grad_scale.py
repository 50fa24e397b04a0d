"""grad_scale=: what a scaler multiplies the loss by is taken off the gradients again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.profiles.profile import Profile
from fmstats.statistic.fields import COUNTS
from fmstats.tracking.grad_scale import GradScale

BATCHES = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(3))
SCALES = (2.0**16, 2.0**16, 2.0**17, 2.0**9, 2.0**9)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def train(scales: tuple[float, ...], **options: object) -> Profile:
    """What flows back in passes whose losses are multiplied by these."""
    model, now = net(), [1.0]
    if options.get("grad_scale") == "told":
        options["grad_scale"] = lambda: now[0]
    with fmstats.track(model, of="grad_output", **options) as tracker:  # type: ignore[arg-type]
        for x, now[0] in zip(BATCHES, scales, strict=True):
            (model(x).square().sum() * now[0]).backward()
    return tracker.stats()


def assert_same_numbers(got: Profile, want: Profile) -> None:
    assert list(got) == list(want)
    for name in want:
        for field in COUNTS:
            assert torch.equal(got[name].state[field], want[name].state[field]), (name, field)
        for field in ("mean", "m2", "min", "max"):
            np.testing.assert_allclose(
                got[name].state[field], want[name].state[field], rtol=1e-12, err_msg=field
            )


@pytest.mark.parametrize(
    "options",
    [{}, {"zero_tol": 0.05, "saturation": {"*": (-0.5, 0.25)}}, {"per_call": True}],
)
def test_scales_that_change_leave_no_trace(options: dict[str, object]) -> None:
    """Powers of two change no bit of a gradient, so none of a statistic."""
    want = train((1.0,) * 5, **options)
    assert_same_numbers(train(SCALES, grad_scale="told", **options), want)
    assert_same_numbers(train((2.0**16,) * 5, grad_scale=2**16, **options), want)
    mixed = train(SCALES, **options)
    name = "0#0" if options.get("per_call") else "0"
    assert mixed[name].std.max() > 1e4 * want[name].std.max()


def test_other_scales_are_taken_off_but_for_rounding() -> None:
    got, want = train((3.0, 0.7, 11.0, 1e3, 5.0), grad_scale="told"), train((1.0,) * 5)
    for name in want:
        np.testing.assert_allclose(got[name].mean, want[name].mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(got[name].std, want[name].std, rtol=1e-5)
        np.testing.assert_allclose(got[name].max, want[name].max, rtol=1e-6)


def test_a_scaler() -> None:
    """One that grows after each second step and falls back where gradients overflow."""
    profiles = []
    for scaled in (False, True):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        scaler = torch.amp.GradScaler("cpu", 2.0**12, growth_interval=2, enabled=scaled)
        with fmstats.track(model, of="grad_output", grad_scale=scaler) as tracker:
            for x in BATCHES:
                optimizer.zero_grad()
                scaler.scale(model(x).square().sum()).backward()
                scaler.step(optimizer)
                scaler.update()
        profiles.append(tracker.stats())
        assert scaler.get_scale() == (2.0**14 if scaled else 1.0)
    plain, scaled_profile = profiles
    for name in plain:
        np.testing.assert_allclose(scaled_profile[name].std, plain[name].std, rtol=1e-5)


def test_a_restored_tracker_goes_on_under_another_scale() -> None:
    model = net()
    want = train((1.0,) * 5)
    first, second = BATCHES[:2], BATCHES[2:]
    with fmstats.track(model, of="grad_output", grad_scale=2.0**10) as before:
        for x in first:
            (model(x).square().sum() * 2.0**10).backward()
    with fmstats.track(model, of="grad_output", grad_scale=2.0**20) as after:
        after.restore(before.stats())
        assert_same_numbers(after.stats(), before.stats())
        for x in second:
            (model(x).square().sum() * 2.0**20).backward()
    assert_same_numbers(after.stats(), want)


def test_a_scaler_is_asked_once_a_backward_pass() -> None:
    asked = []
    model = net()
    with fmstats.track(model, of="grad_output", grad_scale=lambda: asked.append(1) or 4) as tracker:
        for x in BATCHES[:3]:
            model(x).sum().backward()
    assert len(asked) == 3
    assert len(tracker.stats()) == 3


@pytest.mark.parametrize("scale", [0, -1.0, math.inf, math.nan, "2", True, [3]])
def test_what_is_no_scale(scale: object) -> None:
    message = (
        r"^grad_scale=.*: give a finite number above 0, a function that returns one, or a Grad"
    )
    with pytest.raises(FmstatsError, match=message):
        GradScale(scale)
    with pytest.raises(FmstatsError, match=message):
        GradScale(lambda: scale).now()


def test_a_function_that_fails_leaves_the_backward_pass_alone() -> None:
    model, plain = net(), net()
    with (
        fmstats.track(model, of="grad_output", grad_scale=lambda: 0),
        pytest.warns(RuntimeWarning, match=r"no longer measures layer .*grad_scale=0: give"),
    ):
        model(BATCHES[0]).sum().backward()
    plain(BATCHES[0]).sum().backward()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert isinstance(a.grad, Tensor)
        assert isinstance(b.grad, Tensor)
        assert torch.equal(a.grad, b.grad)


def test_it_is_for_gradients() -> None:
    with pytest.raises(FmstatsError, match=r"^grad_scale= is for of='grad_output', not of="):
        fmstats.track(net(), grad_scale=2.0)
