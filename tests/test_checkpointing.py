"""Activation checkpointing runs layers again in the backward pass: they are counted once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import fmstats

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool | None, how: str = "plain") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 8))
        self.head = nn.Linear(8, 3)
        self.reentrant, self.how = reentrant, how

    def forward(self, x: Tensor) -> Tensor:
        if self.reentrant is None:
            return self.head(self.body(x))
        options: dict[str, Any] = {"use_reentrant": self.reentrant}
        if self.how == "sequential":
            return self.head(checkpoint_sequential(self.body, 2, x, **options))
        if self.how == "nested":
            inner = lambda y: checkpoint(self.body[:2], y, **options)  # noqa: E731
            return self.head(checkpoint(lambda y: self.body[2:](inner(y)), x, **options))
        return self.head(checkpoint(self.body, x, **options))


def measured(reentrant: bool | None, how: str = "plain", **options: Any) -> fmstats.Profile:
    model, x = Checkpointed(reentrant, how), X.clone().requires_grad_()
    with fmstats.track(model, **options) as tracker:
        for _ in range(2):
            torch.manual_seed(5)
            model(x).square().sum().backward()
    return tracker.stats()


@pytest.mark.parametrize("how", ["plain", "sequential", "nested"])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("of", ["output", "input", "grad_output"])
def test_each_activation_is_counted_once(reentrant: bool, how: str, of: str) -> None:
    expected, stats = measured(None, of=of), measured(reentrant, how, of=of)
    assert set(stats) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(stats[name].count, expected[name].count)
        np.testing.assert_array_equal(stats[name].zeros, expected[name].zeros)
        np.testing.assert_allclose(stats[name].mean, expected[name].mean, rtol=1e-6, atol=1e-9)
    assert stats.metadata["passes"] == 2


@pytest.mark.parametrize("reentrant", [False, True])
def test_the_whole_model_checkpointed(reentrant: bool) -> None:
    model = Checkpointed(None)
    with fmstats.track(model, per_call=True) as tracker:
        x = X.clone().requires_grad_()
        checkpoint(model, x, use_reentrant=reentrant).sum().backward()
    stats = tracker.stats()
    assert stats.metadata["passes"] == 1
    assert list(stats) == ["body.0#0", "body.1#0", "body.2#0", "body.3#0", "head#0"]
    assert stats["head#0"].count.tolist() == [4, 4, 4]


def test_compiled() -> None:
    torch.compiler.reset()
    model = Checkpointed(False)
    with fmstats.track(model) as tracker:
        torch.compile(model, fullgraph=True)(X.clone().requires_grad_()).sum().backward()
    assert {name: int(s.count[0]) for name, s in tracker.stats().items()} == dict.fromkeys(
        ("body.0", "body.1", "body.2", "body.3", "head"), 4
    )


def test_what_runs_for_the_first_time_in_a_backward_pass_is_not_seen() -> None:
    """The price of the rule: a forward pass inside of a backward pass counts as a recomputation."""
    model = nn.Linear(2, 2)

    class Late(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 1

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return model(gradient).detach()

    with fmstats.track(model) as tracker:
        Late.apply(torch.ones(1, 2, requires_grad=True)).sum().backward()
    assert not tracker.stats()
