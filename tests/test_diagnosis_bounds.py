"""Saturated channels: low, high and both, at the boundary."""

from __future__ import annotations

import torch
from diagnosis_profiles import healthy, layer_of, profile_of
from torch import nn

import fmstats

RULES = ["saturated-low", "saturated-high", "saturated-both"]


def test_saturated_high() -> None:
    x = healthy()
    x[:500, 1] = 6
    x[500:, 1] = 1
    relu6 = {"type": "ReLU6", "high": 6.0}
    assert profile_of(layer_of(x, **relu6)).diagnose(RULES).findings == []
    x[500, 1] = 7
    (finding,) = profile_of(layer_of(x, **relu6)).diagnose(RULES)
    assert finding.rule == "saturated-high"
    assert finding.message == (
        "1 of 4 channels (1): at 6 or above in more than 50 % of the elements"
    )
    assert finding.evidence["share"] == 0.501
    assert profile_of(layer_of(x, **relu6)).diagnose(RULES, {"saturated": 0.6}).findings == []


def test_saturated_low() -> None:
    x = healthy().clamp(-0.9, 0.9)
    x[:600, 2] = -0.99
    (finding,) = profile_of(layer_of(x, "Tanh", -0.99, 0.99)).diagnose(RULES)
    assert (finding.rule, finding.channels) == ("saturated-low", (2,))


def test_a_switch_is_at_either_bound() -> None:
    x = torch.tensor([-9.0, 9.0, 0.0]).repeat(200)[:, None]
    model = nn.Sequential(nn.Tanh())
    with fmstats.track(model) as tracker:
        model(x)
    (finding,) = tracker.stats().diagnose(RULES)
    assert finding.rule == "saturated-both"
    assert finding.message.endswith(": at -0.99 or at 0.99 in more than 50 % of the elements")


def test_no_bounds_no_verdict() -> None:
    diagnosis = profile_of(layer_of(healthy())).diagnose(RULES)
    assert (diagnosis.findings, diagnosis.not_enough_data) == ([], [])
    measure = diagnosis.measures["saturated-low"]
    assert (measure.value, measure.at_least, measure.at_most) == (None, 0, 1)
    assert measure.reason == "the rule applies to no layer of this profile"
