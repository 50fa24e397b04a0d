"""Scale along depth: trends and steps among layers of one type, and what is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diagnosis_profiles import layer_of, profile_of, scaled
from torch import nn

import fmstats
from fmstats import Finding
from fmstats.diagnosis.depth import theil_sen

RULES = ["exploding", "vanishing"]


def found(scales: list[float], **thresholds: float) -> list[Finding]:
    return profile_of(*map(scaled, scales)).diagnose(RULES, thresholds).findings


def test_exploding_is_told_at_the_last_layer() -> None:
    (finding,) = found([4.0**i for i in range(6)])  # 1024 in all
    assert (finding.rule, finding.layer, finding.severity) == ("exploding", "f", "warning")
    assert finding.message == (
        "rms 1024 after 1 in a: times 4 a layer over 6 layers of type Linear"
    )
    assert finding.evidence["factor_per_layer"] == pytest.approx(4)
    assert found([4.0**i for i in range(5)]) == []  # 256
    assert len(found([4.0**i for i in range(5)], growth=200)) == 1


def test_vanishing() -> None:
    (finding,) = found([4.0**-i for i in range(6)])
    assert (finding.rule, finding.layer) == ("vanishing", "f")
    assert finding.evidence["factor_per_layer"] == pytest.approx(1 / 4)


def test_a_step_is_told_where_it_is() -> None:
    (finding,) = found([1, 1, 2000, 2000, 2000])
    assert (finding.rule, finding.layer) == ("exploding", "c")
    assert finding.message == "rms 2000 after 1 in b, the Linear before it"


def test_up_and_down_is_no_trend() -> None:
    assert found([1, 100, 1, 100, 1, 100, 1]) == []


def test_only_layers_of_one_type_are_compared() -> None:
    layers = [scaled(4.0**i, "Linear" if i % 2 else "LayerNorm") for i in range(6)]
    diagnosis = profile_of(*layers).diagnose(RULES)
    assert diagnosis.findings == []
    assert diagnosis.measures["exploding"].reason == "the rule applies to no layer of this profile"


def test_a_layer_of_zeros_is_no_step() -> None:
    zeros = layer_of(torch.zeros(400, 2), "Linear")
    layers = [scaled(1.0), scaled(1.0), zeros, scaled(1.0), scaled(1.0)]
    assert profile_of(*layers).diagnose(RULES).findings == []


@pytest.mark.parametrize(("gain", "rule"), [(30.0, "exploding"), (0.03, "vanishing")])
def test_a_real_model(gain: float, rule: str) -> None:
    model = nn.Sequential(*[nn.Linear(64, 64, bias=False) for _ in range(8)])
    for layer in model:
        nn.init.normal_(layer.weight, std=gain / 8)
    with fmstats.track(model) as tracker, torch.no_grad():
        model(torch.randn(400, 64))
    assert {f.rule for f in tracker.stats().diagnose(RULES)} == {rule}
    for layer in model:
        nn.init.normal_(layer.weight, std=1 / 8)
    with fmstats.track(model) as tracker, torch.no_grad():
        model(torch.randn(400, 64))
    assert tracker.stats().diagnose(RULES).findings == []


def test_vanishing_gradients() -> None:
    layers = [part for _ in range(8) for part in (nn.Linear(16, 16), nn.Sigmoid())]
    model = nn.Sequential(*layers)
    with fmstats.track(model, include=nn.Linear, of="grad_output") as tracker:
        model(torch.randn(400, 16)).sum().backward()
    (finding,) = tracker.stats().diagnose(["vanishing"])
    assert finding.layer == "0"  # the last in the order of the backward pass


def test_theil_sen_ignores_a_wild_point() -> None:
    y = np.arange(9.0) * 0.5
    y[4] = 1e6
    assert theil_sen(y) == pytest.approx(0.5)
