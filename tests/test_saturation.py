"""Saturation bounds by module type, and those that a user sets."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.models.saturation import Bounds, bounds_of, chosen_bounds
from fmstats.statistic.thresholds import Thresholds

BOUNDS = [
    (nn.ReLU6(), (None, 6.0)),
    (nn.Hardtanh(), (-1.0, 1.0)),
    (nn.Hardtanh(-2, 3), (-2.0, 3.0)),
    (nn.Hardsigmoid(), (0.0, 1.0)),
    (nn.Sigmoid(), (0.01, 0.99)),
    (nn.Tanh(), (-0.99, 0.99)),
    (nn.Hardswish(), (None, None)),
    (nn.ReLU(), (None, None)),
    (nn.Linear(1, 1), (None, None)),
]


@pytest.mark.parametrize(("module", "bounds"), BOUNDS, ids=lambda v: str(v))
def test_bounds_by_type(module: nn.Module, bounds: Bounds) -> None:
    assert bounds_of(module) == bounds


@pytest.mark.parametrize(("module", "bounds"), BOUNDS[:6], ids=lambda v: str(v))
def test_counts_at_and_beyond(module: nn.Module, bounds: Bounds) -> None:
    x = torch.linspace(-9, 9, 1000).view(500, 2)
    with fmstats.track(module) as tracker:
        y = module(x).double()
    stats = tracker.stats()["(model)"]
    low, high = bounds
    want_low = (y <= low).sum(0) if low is not None else torch.zeros(2, dtype=torch.int64)
    want_high = (y >= high).sum(0)
    assert want_high.min() > 0
    assert stats.sat_low.tolist() == want_low.tolist()
    assert stats.sat_high.tolist() == want_high.tolist()
    assert stats.saturated is not None
    assert stats.saturated.tolist() == ((want_low + want_high).double() / 500).tolist()


def test_a_layer_without_bounds_has_no_share() -> None:
    model = nn.ReLU()
    with fmstats.track(model) as tracker:
        model(torch.randn(4, 2))
    assert tracker.stats()["(model)"].saturated is None
    assert tracker.stats().layers()[0]["saturated"] is None


def relu_only(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.ReLU)


@pytest.mark.parametrize("selector", ["0", "[0]", re.compile("^0$"), nn.ReLU, relu_only])
def test_bounds_by_selector(selector: str) -> None:
    model = nn.Sequential(nn.ReLU(), nn.Tanh())
    x = torch.tensor([[-1.0, 0.5], [2.0, 3.0], [0.25, 9.0]])
    with fmstats.track(model, saturation={selector: (None, 2.0)}) as tracker:
        model(x)
    profile = tracker.stats()
    assert profile["0"].sat_high.tolist() == [1, 2]
    assert profile["0"].thresholds == Thresholds(0.0, None, 2.0)
    assert profile["1"].thresholds == Thresholds(0.0, -0.99, 0.99)


def test_bounds_can_be_taken_away_and_later_selectors_win() -> None:
    model = nn.Sequential(nn.ReLU6(), nn.Tanh())
    given = {"*": (None, None), nn.Tanh: [0, 0.5]}
    tracker = fmstats.track(model, saturation=given)  # type: ignore[arg-type]
    model(torch.full((2, 1), 7.0))
    assert tracker.stats()["0"].saturated is None
    assert tracker.stats()["1"].thresholds == Thresholds(0.0, 0.0, 0.5)


def test_inputs_have_only_the_bounds_given() -> None:
    modules = {"a": nn.ReLU6()}
    assert chosen_bounds(modules, "input", None) == {"a": (None, None)}
    assert chosen_bounds(modules, "input", {"a": (-1.0, 6.0)}) == {"a": (-1.0, 6.0)}


def seen_by(model: nn.Module, x: Tensor, **options: object) -> fmstats.ChannelStats:
    with fmstats.track(model, **options) as tracker:  # type: ignore[arg-type]
        model(x)
    return tracker.stats()["(model)"]


def test_bounds_and_tolerance_compare_exact_values() -> None:
    """float32 0.99 lies above 0.99, its neighbour below; neither bound is rounded onto it."""
    above = torch.tensor(0.99, dtype=torch.float32)
    below = torch.nextafter(above, torch.tensor(0.0))
    x = torch.stack([above, below]).view(1, 2)
    stats = seen_by(nn.Identity(), x, saturation={"(model)": (None, 0.99)})
    assert stats.sat_high.tolist() == [int(v >= 0.99) for v in x[0].double().tolist()]
    assert sorted(stats.sat_high.tolist()) == [0, 1]


@pytest.mark.parametrize("bound", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("chosen", ["auto", "torch", "reference"])
def test_bounds_that_are_one_number(bound: float, chosen: str) -> None:
    """An element at it is at both bounds, and counts once; only NaN is at neither."""
    x = torch.tensor([[-1.0], [0.0], [0.0], [1.0], [float("nan")]])
    stats = seen_by(nn.Identity(), x, saturation={"*": (bound, bound)}, backend=chosen)
    assert stats.sat_low.tolist() == [int((x <= bound).sum())]
    assert stats.sat_high.tolist() == [int((x >= bound).sum())]
    assert stats.saturated is not None
    assert stats.saturated.tolist() == [0.8]


@pytest.mark.parametrize(
    ("saturation", "message"),
    [
        ({"*": 6.0}, r"^saturation of layer '\(model\)': give a pair \(low, high\), not 6\.0"),
        ({"*": (1, 2, 3)}, r"give a pair \(low, high\), not \(1, 2, 3\)"),
        ({"*": (0, float("nan"))}, r"saturation bound high=nan: give a finite number or None"),
        ({"*": (float("-inf"), 0)}, r"saturation bound low=-inf: give a finite number or None"),
        ({"*": ("a", 1)}, r"\(model\).*'a'"),
        ({"*": (6, 0)}, r"low"),
        ({"relu": (0, 1)}, r"^saturation.*'relu' matches none of the tracked layers"),
        ((0, 1), r"^saturation=\(0, 1\)"),
        ({3: (0, 1)}, r"^cannot select layers by 3"),
    ],
)
def test_other_bounds(saturation: dict[str, Bounds], message: str) -> None:
    with pytest.raises(FmstatsError, match=message):
        fmstats.track(nn.Tanh(), saturation=saturation)
