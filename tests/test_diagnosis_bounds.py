"""Saturated channels: low, high and both, at the boundary."""

from __future__ import annotations

import torch
from diagnosis_profiles import healthy, layer_of, profile_of
from torch import Tensor, nn

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


def gate(low: int, high: int, both: int, rest: int = 0) -> Tensor:
    """Channels of so many kinds of a gate between 0 and 1."""
    x = torch.rand(1000, low + high + both + rest) * 0.4 + 0.3
    x[:, :low], x[:, low : low + high] = 0, 1
    x[:, low + high : low + high + both] = (torch.arange(1000) % 2).float()[:, None]
    return x


def test_a_switch_is_for_information() -> None:
    layer = layer_of(gate(7, 12, 13), "Sigmoid", 0.01, 0.99)
    findings = profile_of(layer).diagnose(RULES).findings
    assert [(f.rule, f.severity, len(f.channels)) for f in findings] == [
        ("saturated-low", "info", 7),
        ("saturated-high", "info", 12),
        ("saturated-both", "info", 13),
    ]
    (both,) = profile_of(layer_of(gate(0, 0, 9), "Hardsigmoid", 0.0, 1.0)).diagnose(RULES)
    assert both.severity == "info"


def test_a_gate_that_is_always_open_or_closed_is_a_warning() -> None:
    for rule, n in (("saturated-low", (9, 0)), ("saturated-high", (0, 9))):
        (finding,) = profile_of(layer_of(gate(*n, 0, 1), "Sigmoid", 0.01, 0.99)).diagnose(RULES)
        assert (finding.rule, finding.severity) == (rule, "warning")
        (finding,) = profile_of(layer_of(gate(*n, 0, 2), "Sigmoid", 0.01, 0.99)).diagnose(RULES)
        assert (finding.rule, finding.severity) == (rule, "info")


def test_a_few_channels_of_an_activation_are_for_information() -> None:
    for n in ((2, 0, 0), (0, 2, 0), (0, 0, 2)):
        for rest, severity in ((18, "warning"), (19, "info")):
            x = gate(*n, rest) * 2 - 1
            (finding,) = profile_of(layer_of(x, "Tanh", -0.99, 0.99)).diagnose(RULES)
            assert finding.severity == severity


def test_what_goes_beyond_0_and_1_is_no_gate() -> None:
    """Its ends are those of an activation, as a ReLU6's."""
    for low, high in ((-1.0, 1.0), (0.0, 2.0)):
        x = low + (high - low) * gate(0, 0, 8)
        (finding,) = profile_of(layer_of(x, "Hardtanh", low, high)).diagnose(RULES)
        assert finding.severity == "warning"


def test_each_bound_alone_is_no_both() -> None:
    """Whichever of the bounds most elements are at."""
    for channels in ((6, 0, 0), (0, 6, 0)):
        findings = profile_of(layer_of(gate(*channels), "Tanh", 0.0, 1.0)).diagnose(RULES).findings
        assert len(findings) == 1
        assert findings[0].rule != "saturated-both"
