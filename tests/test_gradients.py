"""of="grad_output": the gradients that flow back into the layers' outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.operations.channel_finder import ChannelFinder

X = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3)
    )


def gradients_of(model: nn.Sequential) -> list[Tensor]:
    """Of every output, by a chain without in-place operations."""
    outputs, x = [], X
    for layer in model:
        x = nn.functional.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
        outputs.append(x)
    return list(torch.autograd.grad(x.square().sum(), outputs))


def test_numbers_are_those_of_autograd() -> None:
    expected, model = gradients_of(net()), net()
    with fmstats.track(model, of="grad_output") as tracker:
        model(X).square().sum().backward()
    stats = tracker.stats()
    assert list(stats) == ["3", "2", "1", "0"]  # in the order in which gradients flow
    for i, gradient in enumerate(expected):
        by_channel = gradient.double().transpose(0, 1).flatten(1)
        channel = stats[str(i)]
        np.testing.assert_array_equal(channel.count, by_channel.shape[1])
        scale = float(by_channel.std())
        np.testing.assert_allclose(channel.mean, by_channel.mean(1), atol=1e-5 * scale)
        np.testing.assert_allclose(channel.std, by_channel.std(1), rtol=1e-5)
        np.testing.assert_allclose(channel.max, by_channel.amax(1), rtol=1e-5)
    assert stats.metadata["of"] == "grad_output"


def test_training_is_unchanged() -> None:
    plain, model = net(), net()
    plain(X).square().sum().backward()
    with fmstats.track(model, of="grad_output"):
        model(X).square().sum().backward()
    for a, b in zip(plain.parameters(), model.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert torch.equal(a.grad, b.grad)


def test_gradients_that_are_not_there() -> None:
    model = net().requires_grad_(False)
    with fmstats.track(model, of="grad_output") as tracker:
        model(X)
    assert not tracker.stats()
    assert tracker.coverage()[0].reason == "its grad_output has no gradient"


def test_pause_and_close() -> None:
    model = net()
    tracker = fmstats.track(model, of="grad_output")
    tracker.pause()
    model(X).sum().backward()
    assert not tracker.stats()
    assert not any(row.reason for row in tracker.coverage())
    tracker.resume()
    loss = model(X).sum()
    tracker.close()
    loss.backward()
    assert not tracker.stats()


def test_every() -> None:
    model = net()
    with fmstats.track(model, of="grad_output", every=2) as tracker:
        for _ in range(4):
            model(X).sum().backward()
    assert tracker.stats()["3"].count.tolist() == [2 * 5 * 16] * 2


def test_double_backward() -> None:
    model = net()
    with fmstats.track(model, of="grad_output") as tracker:
        x = X.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        once = tracker.stats()["3"].count.copy()
        gradient.square().sum().backward()
    assert once.tolist() == [5 * 16] * 2
    # Gradients of gradients flow into the outputs as well.
    assert (tracker.stats()["3"].count >= once).all()


def test_nan_gradients_are_counted() -> None:
    model = net()
    with fmstats.track(model, of="grad_output") as tracker:
        (model(X).sum() * float("nan")).backward()
    assert tracker.stats()["3"].nan.tolist() == [5 * 16] * 2


def test_gradients_hold_nothing_alive() -> None:
    model = net()
    with fmstats.track(model, of="grad_output") as tracker:
        model(X).sum().backward()
    assert tracker.stats()["0"].count.tolist() == [5 * 36] * 4


def test_a_layer_that_failed_stays_disabled() -> None:
    """Also after a pass without gradients."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with fmstats.track(model, of="grad_output", on_error="warn") as tracker:
        model(torch.randn(5, 3)).sum().backward()
        tracker._set.layers["0"].reset()
        tracker._set.layers["0"].channels = ChannelFinder(9)
        with pytest.warns(RuntimeWarning, match="no longer measures layer '0'"):
            model(torch.randn(5, 2, 3)).sum().backward()
        with torch.no_grad():
            model(torch.randn(5, 3))
        (row,) = [row for row in tracker.coverage() if row.name == "0"]
    assert (row.status, row.reason[:24]) == ("skipped", "disabled after an error:")


def test_a_parameter_that_is_given_is_hooked_once_a_pass() -> None:
    """It stays from pass to pass, and its hooks with it; a closed tracker leaves none."""

    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.ones(4, 3))

        def forward(self) -> Tensor:
            return self.table

    model = Positions()
    with fmstats.track(model, of="grad_output") as tracker:
        for _ in range(3):
            model().sum().backward()
        assert tracker.stats()["(model)"].count.tolist() == [12] * 3
        assert len(model.table._backward_hooks) == 1
    assert len(model.table._backward_hooks) == 0


def test_rows_per_call_are_of_the_calls_of_the_forward_pass() -> None:
    """Gradients flow in the other order."""
    act = nn.Identity()
    model = nn.Sequential(act, nn.Linear(3, 3), act)
    x = torch.randn(2, 3, requires_grad=True)
    with fmstats.track(model, "0", of="grad_output", per_call=True) as tracker:
        for _ in range(2):
            (7 * model(x)).sum().backward()
    profile = tracker.stats()
    assert list(profile) == ["0#1", "0#0"]
    assert profile["0#1"].min.tolist() == profile["0#1"].max.tolist() == [7.0] * 3
    assert profile.info["0#0"].calls == 2


def test_what_a_pass_was_measured_for_is_folded_whenever_it_flows() -> None:
    """Also once a later pass is not measured, or the tracker is paused."""
    model = net()
    with fmstats.track(model, of="grad_output", every=2) as tracker:
        losses = [model(X).sum() for _ in range(2)]
        tracker.pause()
        for loss in losses:
            loss.backward()
        assert tracker.stats()["3"].count.tolist() == [5 * 16] * 2
