"""The numbers equal the expressions that people write in hooks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import fmstats
from fmstats.backends import BACKENDS

NAMES = [b.name for b in BACKENDS if b.why_not() is None]
OVER = (0, 2, 3)


@pytest.fixture(params=[torch.contiguous_format, torch.channels_last], ids=str)
def x(request: pytest.FixtureRequest) -> Tensor:
    x = torch.randn(6, 24, 17, 19).relu() + torch.arange(24.0).view(1, -1, 1, 1) / 8
    x[:, 5] = 0
    x[:, 6, 3:] = 0
    x = x.contiguous(memory_format=request.param)
    formats = (torch.contiguous_format, torch.channels_last)
    assert [f for f in formats if x.is_contiguous(memory_format=f)] == [request.param]
    return x


@pytest.mark.parametrize("name", NAMES)
def test_the_hook_everybody_writes(x: Tensor, name: str) -> None:
    stats = fmstats.channel_stats(x, backend=name)
    wide = x.double()

    def close(got: object, want: Tensor, rel: float = 1e-6) -> None:
        torch.testing.assert_close(torch.as_tensor(got), want, rtol=rel, atol=1e-7)

    close(stats.mean, wide.mean(OVER))
    close(stats.std, wide.std(OVER))
    close(stats.var, wide.var(OVER))
    close(stats.variance(0), wide.var(OVER, correction=0))
    close(stats.rms, wide.square().mean(OVER).sqrt())
    assert torch.equal(torch.as_tensor(stats.sparsity), (x == 0).double().mean(OVER))
    assert torch.equal(torch.as_tensor(stats.max), wide.amax(OVER))
    assert torch.equal(torch.as_tensor(stats.min), wide.amin(OVER))
    assert torch.equal(torch.as_tensor(stats.abs_max), wide.abs().amax(OVER))
    assert stats.never_active.nonzero()[0].tolist() == [5]


@pytest.mark.parametrize("name", NAMES)
def test_a_mean_of_ten_thousand_deviations(name: str) -> None:
    x = 1e4 + torch.randn(4, 5, 64, 64)
    stats = fmstats.channel_stats(x, backend=name)
    wide = x.double()
    std = wide.std(OVER)
    assert ((torch.as_tensor(stats.mean) - wide.mean(OVER)).abs() <= 1e-6 * std).all()
    assert ((torch.as_tensor(stats.var) - wide.var(OVER)).abs() <= 1e-6 * wide.var(OVER)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_first_batch_far_from_the_next(name: str) -> None:
    """A running mean that is no use as pivot: the scale jumps by 10^6 between batches."""
    batches = [torch.randn(2, 3, 8, 8), 1e6 + torch.randn(2, 3, 64, 64), torch.randn(2, 3, 8, 8)]
    layer = torch.nn.Identity()
    with fmstats.track(layer, backend=name) as tracker:
        for batch in batches:
            layer(batch)
    stats = tracker.stats()["(model)"]
    for c in range(3):
        everything = torch.cat([b[:, c].flatten() for b in batches]).double()
        assert stats.mean[c] == pytest.approx(everything.mean().item(), rel=1e-9)
        assert stats.var[c] == pytest.approx(everything.var().item(), rel=1e-6)
    only = fmstats.channel_stats(batches[1], backend=name)
    assert only.var == pytest.approx(batches[1].double().var(OVER).numpy(), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_bad_values_are_counted_and_kept_apart(name: str) -> None:
    x = torch.randn(3, 4, 5, 6)
    clean = fmstats.channel_stats(x, backend=name)
    x[1, 2, 3, 4] = float("nan")
    x[0, 2, 0, 0] = float("inf")
    x[2, 2, 0, 1] = float("-inf")
    stats = fmstats.channel_stats(x, backend=name)
    assert (stats.nan[2], stats.pos_inf[2], stats.neg_inf[2]) == (1, 1, 1)
    assert (stats.count[2], stats.finite_count[2]) == (90, 87)
    finite = x[:, 2][torch.isfinite(x[:, 2])].double()
    assert stats.mean[2] == pytest.approx(finite.mean().item(), rel=1e-6, abs=1e-7)
    assert stats.std[2] == pytest.approx(finite.std().item(), rel=1e-6)
    assert stats.max[2] == finite.max().item()
    assert stats.mean[:2].tolist() == clean.mean[:2].tolist()
