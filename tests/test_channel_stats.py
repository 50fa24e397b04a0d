"""Numbers derived from a state equal the PyTorch expressions for them."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from tolerances import ROUNDING, assert_equal_states
from torch import Tensor

import fmstats
from fmstats.backends import Backend
from fmstats.errors import FmstatsError
from fmstats.statistic.channel_stats import ChannelStats, pool_channels
from fmstats.statistic.state import State, merge
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of


def measured(
    x: Tensor, thresholds: Thresholds | None = None, backend: Backend | None = None
) -> ChannelStats:
    """Statistics of the columns of x."""
    if backend is None:
        assert thresholds is None
        return fmstats.channel_stats(x, 1)
    state, view = State.identity(x.shape[1]), view_of(x, 1)
    backend.accumulate(state, x, view, thresholds or Thresholds())
    return ChannelStats(state, thresholds)


def test_pytorch_expressions(backend: Backend) -> None:
    x = torch.randn(50, 4, 7).relu() * torch.tensor([1.0, 3.0, 0.0, 1e-3]).view(1, 4, 1)
    stats, wide = measured(x, backend=backend), x.double()
    want = {
        "mean": wide.mean((0, 2)),
        "var": wide.var((0, 2)),
        "std": wide.std((0, 2)),
        "min": wide.amin((0, 2)),
        "max": wide.amax((0, 2)),
        "abs_max": wide.abs().amax((0, 2)),
        "rms": wide.square().mean((0, 2)).sqrt(),
        "sparsity": (wide == 0).double().mean((0, 2)),
    }
    for name, value in want.items():
        got = getattr(stats, name)
        assert got.dtype == np.float64
        assert got == pytest.approx(value.numpy(), rel=1e-6, abs=0), name
    for correction in (0, 1, 2):
        want_var = wide.var((0, 2), correction=correction).numpy()
        assert stats.variance(correction) == pytest.approx(want_var, rel=1e-6), correction
    for name in ("count", "nan", "pos_inf", "neg_inf", "zeros", "finite_count"):
        assert getattr(stats, name).dtype == np.int64
    assert stats.count.tolist() == [350] * 4
    assert stats.never_active.tolist() == [False, False, True, False]


def test_float32_expressions_of_a_hook() -> None:
    """What people compare with: float32 means of the same tensor."""
    x = torch.randn(16, 5, 8, 8).relu()
    stats = fmstats.channel_stats(x)
    assert stats.mean == pytest.approx(x.mean((0, 2, 3)).numpy(), rel=1e-5)
    assert stats.std == pytest.approx(x.std((0, 2, 3)).numpy(), rel=1e-5)
    assert stats.sparsity == pytest.approx((x == 0).float().mean((0, 2, 3)).numpy(), rel=1e-6)
    assert stats.max.tolist() == x.amax((0, 2, 3)).tolist()


def test_one_element_has_no_variance() -> None:
    stats = measured(torch.tensor([[2.0, -3.0]]))
    assert np.isnan(stats.var).all()
    assert np.isnan(stats.std).all()
    assert stats.variance(0).tolist() == [0.0, 0.0]
    assert stats.rms.tolist() == [2.0, 3.0]
    assert stats.abs_max.tolist() == [2.0, 3.0]
    assert measured(torch.tensor([[1.0, 1.0], [-4.0, 5.0]])).abs_max.tolist() == [4.0, 5.0]


@pytest.mark.parametrize("correction", [3, 4])
def test_more_correction_than_elements_is_nan_without_noise(correction: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stats = measured(torch.tensor([[1e6], [-1e6], [0.0]]))
        assert np.isnan(stats.variance(correction)).all()


def test_nothing_finite() -> None:
    nan, inf = float("nan"), float("inf")
    stats = measured(torch.tensor([[nan, inf, 1.0], [nan, -inf, nan]]))
    for name in ("mean", "std", "var", "rms", "min", "max", "abs_max"):
        assert np.isnan(getattr(stats, name)[:2]).all(), name
    assert np.isnan(stats.variance(0)[:2]).all()
    assert (stats.mean[2], stats.min[2], stats.max[2]) == (1.0, 1.0, 1.0)
    assert stats.sparsity.tolist() == [0.0, 0.0, 0.0]
    assert stats.nan.tolist() == [2, 0, 1]
    assert (stats.pos_inf.tolist(), stats.neg_inf.tolist()) == ([0, 1, 0], [0, 1, 0])
    assert stats.finite_count.tolist() == [0, 0, 1]
    assert not stats.dead.any()
    assert not stats.never_active.any()


def test_nothing_seen() -> None:
    stats = measured(torch.empty(0, 2))
    assert stats.count.tolist() == [0, 0]
    for name in ("mean", "var", "min", "sparsity"):
        assert np.isnan(getattr(stats, name)).all(), name
    assert not stats.dead.any()
    assert not stats.never_active.any()
    assert repr(stats) == "ChannelStats(2 channels, nothing finite seen)"


@pytest.mark.parametrize("n", [100, 300, 700, 12_300])
def test_dead_is_more_than_99_percent(n: int) -> None:
    x = torch.zeros(n, 3)
    x[: n // 100, 0] = 1.0  # 99 % zeros exactly
    x[: n // 100 - 1, 1] = 1.0
    x[: n // 100 + 1, 2] = 1.0
    assert measured(x).dead.tolist() == [False, True, False]


def test_never_active_is_exactly_zero() -> None:
    x = torch.zeros(1000, 5)
    x[7, 1] = 1e-40
    x[7, 2] = -0.0
    x[7, 3] = float("nan")
    x[:, 4] = 2.0
    stats = measured(x)
    assert stats.never_active.tolist() == [True, False, True, True, False]
    assert stats.dead.tolist() == [True, True, True, True, False]


def test_zero_tol_makes_dead_but_not_never_active() -> None:
    stats = fmstats.channel_stats(torch.full((10, 1), 1e-3), zero_tol=1e-2)
    assert (stats.dead.tolist(), stats.never_active.tolist()) == ([True], [False])


def test_saturated_share(backend: Backend) -> None:
    x = torch.tensor([[-2.0, 0.0], [1.0, 0.5], [3.0, 0.25], [0.0, -1.0]])
    stats = measured(x, Thresholds(0.0, -1.0, 1.0), backend)
    assert stats.saturated is not None
    assert stats.saturated.tolist() == [0.75, 0.25]
    assert (stats.sat_low.tolist(), stats.sat_high.tolist()) == ([1, 1], [2, 0])
    assert measured(x, Thresholds(0.0, None, 1.0), backend).sat_low.tolist() == [0, 0]
    assert measured(x).saturated is None


def test_merge_is_both() -> None:
    a, b = torch.randn(30, 3), 5 + torch.randn(70, 3)
    both, want = measured(a).merge(measured(b)), measured(torch.cat([a, b]))
    for name in ("count", "min", "max", "zeros"):
        assert getattr(both, name).tolist() == getattr(want, name).tolist()
    assert both.mean == pytest.approx(want.mean, rel=1e-6)
    assert both.var == pytest.approx(want.var, rel=1e-6)


def test_merge_leaves_its_parts() -> None:
    a, b = measured(torch.ones(2, 1)), measured(torch.zeros(2, 1))
    a.merge(b)
    assert (a.count.tolist(), a.mean.tolist(), b.mean.tolist()) == ([2], [1.0], [0.0])


@pytest.mark.parametrize(
    "other", [Thresholds(zero_tol=0.1), Thresholds(low=0.0), Thresholds(high=6.0)]
)
def test_other_thresholds_do_not_merge(other: Thresholds) -> None:
    a, b = ChannelStats(State.identity(2)), ChannelStats(State.identity(2), other)
    with pytest.raises(FmstatsError, match="cannot merge counts made under different thresholds: "):
        a.merge(b)
    assert b.merge(ChannelStats(State.identity(2), other)).thresholds == other


def test_other_channels_do_not_merge() -> None:
    with pytest.raises(FmstatsError, match="cannot merge a state of 2 channels with 3"):
        measured(torch.ones(1, 2)).merge(measured(torch.ones(1, 3)))


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 64])
def test_pooled(channels: int) -> None:
    x = torch.randn(20, channels).relu() + torch.arange(channels)
    whole, wide = measured(x).pooled(), x.double()
    assert whole.channels == 1
    assert whole.count[0] == x.numel()
    assert whole.mean[0] == pytest.approx(wide.mean().item(), rel=1e-6)
    assert whole.std[0] == pytest.approx(wide.std().item(), rel=1e-6)
    assert (whole.min[0], whole.max[0]) == (x.min().item(), x.max().item())
    assert whole.sparsity[0] == (wide == 0).double().mean().item()


@pytest.mark.parametrize("widths", [[1], [5], [0, 3, 1, 0], [8, 7, 1, 2, 64, 33], []])
def test_pooled_together_as_each_for_itself(widths: list[int]) -> None:
    layers = [measured(torch.randn(6, width) * (1 + i)) for i, width in enumerate(widths)]
    wholes = pool_channels(layers)
    assert [whole.channels for whole in wholes] == [1] * len(widths)
    for layer, whole in zip(layers, wholes, strict=True):
        want = State.identity(1)
        for channel in range(layer.channels):
            want = merge(want, State(layer.state.words[:, channel : channel + 1]))
        assert_equal_states(whole.state, want, ROUNDING)
        assert torch.equal(layer.pooled().state.words, whole.state.words)


def test_no_channels_pooled_have_seen_nothing() -> None:
    whole = measured(torch.zeros(20, 0)).pooled()
    assert whole.channels == 1
    assert whole.count[0] == 0
    assert np.isnan(whole.mean[0])


def test_arrays_are_copies() -> None:
    stats = measured(torch.ones(2, 1))
    stats.count[0] = 99
    stats.min[0] = -99
    assert (stats.count[0], stats.min[0]) == (2, 1.0)


def test_to_dict_is_plain() -> None:
    x = torch.tensor([[1.0, float("nan")], [0.0, float("nan")]])
    values = measured(x).to_dict()
    assert json.loads(json.dumps(values))["count"] == [2, 2]
    assert values["zeros"] == [1, 0]
    assert values["m2"][0] == 0.5
    assert values["mean"][0] == 0.5
    assert values["mean"][1] != values["mean"][1]
    assert values["dead"] == [False, False]
    assert (values["saturated"], values["saturation_bounds"]) == (None, None)
    assert set(ChannelStats.DERIVED) < set(values)
    bounded = ChannelStats(State.identity(1), Thresholds(0.5, None, 6.0)).to_dict()
    assert (bounded["zero_tol"], bounded["saturation_bounds"]) == (0.5, [None, 6.0])


def test_repr() -> None:
    assert repr(measured(torch.tensor([[0.0, 2.0], [0.0, 4.0]]))) == (
        "ChannelStats(2 channels, 4 elements, mean 1.5, std 1.915, min 0, max 4, sparsity 0.5, "
        "1 dead)"
    )
