"""Scale along depth: steps and trends, where they are reported, and what is none."""

from __future__ import annotations

import math

import pytest
import torch
from diagnosis_profiles import layer_of, profile_of, scaled
from torch import nn

import fmstats
from fmstats import Finding, LayerProfile, Profile

RULES = ["exploding", "vanishing"]


def found(scales: list[float], type: str = "Linear", **thresholds: float) -> list[Finding]:
    return (
        profile_of(*(scaled(scale, type) for scale in scales)).diagnose(RULES, thresholds).findings
    )


def where(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.rule, finding.layer) for finding in findings]


def test_a_trend_is_told_at_its_last_layer() -> None:
    (finding,) = found([1, 1, 1, *(2.0**i for i in range(1, 11)), 1024, 1024])
    assert (finding.rule, finding.layer, finding.severity) == ("exploding", "m", "warning")
    assert finding.message == "rms 1024 after 1 in c: times 2 a layer over 11 layers of type Linear"
    assert finding.evidence["factor_per_layer"] == pytest.approx(2)
    assert finding.evidence["layers"] == 11


def test_growth_is_a_threshold() -> None:
    assert found([1, 1, 1, 29, 29, 29]) == []
    assert where(found([1, 1, 1, 31, 31, 31])) == [("exploding", "d")]
    assert where(found([1, 1, 1, 29, 29, 29], growth=28)) == [("exploding", "d")]
    assert where(found([1, 1, 1, 1 / 29, 1 / 29])) == []
    assert where(found([1, 1, 1, 1 / 31, 1 / 31])) == [("vanishing", "d")]


def test_fewer_layers_than_depth_are_not_compared() -> None:
    assert found([1, 1, 500]) == []
    diagnosis = profile_of(*map(scaled, [1, 1, 500])).diagnose(RULES)
    assert diagnosis.measures["exploding"].reason == "the rule applies to no layer of this profile"
    assert where(found([1, 1, 500], depth=3)) == [("exploding", "c")]


@pytest.mark.parametrize("k", range(1, 12))
@pytest.mark.parametrize("lasting", [True, False])
def test_a_step_is_told_where_it_is(k: int, lasting: bool) -> None:
    for factor, rule in ((500.0, "exploding"), (1 / 500, "vanishing")):
        scales = [1.1 ** (-1) ** i for i in range(12)]
        for i in range(k, 12 if lasting else k + 1):
            scales[i] *= factor
        (finding,) = found(scales)
        assert (finding.rule, finding.layer) == (rule, chr(97 + k))


def test_a_first_layer_that_is_off_is_told_and_not_those_that_are_right() -> None:
    assert where(found([500, 1, 1, 1, 1])) == [("exploding", "a")]
    assert where(found([1 / 500, 1, 1, 1, 1])) == [("vanishing", "a")]
    assert where(found([1, 500, 500, 500])) == [("exploding", "b")]
    assert where(found([1, 1 / 500, 1 / 500, 1 / 500])) == [("vanishing", "b")]
    assert found([500, 1, 1, 1])[0].message == "rms 500 before 1 in b, the Linear behind it"


def test_one_wild_layer_of_eighteen_is_no_trend() -> None:
    scales = [2.27 ** (i % 2) for i in range(18)]
    scales[8:] = [500 * scale for scale in scales[8:]]
    (finding,) = found(scales)
    assert (finding.rule, finding.layer) == ("exploding", "i")
    assert finding.message == "rms 500 after 2.27 in h, the Linear before it"


def test_steps_in_a_row_are_one_finding() -> None:
    assert where(found([1, 1, 1, 50, 2500, 125000, 125000])) == [("exploding", "f")]


def test_both_ways_are_told() -> None:
    findings = found([1, 1, 1, 500, 500, *[1] * 9, 0.001, 0.001, 1])
    assert where(findings) == [("exploding", "d"), ("vanishing", "o")]


def test_what_differs_by_rights_is_no_news() -> None:
    """Where every other layer is a hundred times as large, such a step is usual."""
    assert found([1, 100, 1, 100, 1, 100, 1]) == []
    assert found([1, 100, 1, 120, 1, 80, 1, 100]) == []
    assert where(found([1, 100, 1, 100, 1, 100, 1, 1e12])) == [("exploding", "h")]
    # Without a say of how unusual it is, the factor alone would decide.
    assert where(found([1, 100, 1, 100, 1], unusual=0)) == [("exploding", "b")]


def named(layers: dict[str, LayerProfile]) -> Profile:
    return Profile(layers, {})


def test_blocks_are_compared_place_by_place() -> None:
    """Queries and outputs differ a hundredfold in each block, so type alone says nothing."""
    layers = {
        f"blocks.{i}.{name}": scaled(scale * (60 if (i, name) == (2, "out") else 1))
        for i in range(5)
        for name, scale in (("query", 1.0), ("out", 0.01))
    }
    assert where(named(layers).diagnose(RULES).findings) == [("exploding", "blocks.2.out")]


def test_the_layer_that_did_it_may_be_of_another_type() -> None:
    """Convolutions differ too much to be compared; the normalisations behind them do not."""
    layers = {}
    for i, scale in enumerate([1.0, 0.05, 4.0, 0.5, 3.0, 0.08]):
        off = 500 if i >= 3 else 1
        layers[f"conv{chr(97 + i)}"] = scaled(scale * off, f"Conv{chr(97 + i)}")
        layers[f"bn{chr(97 + i)}"] = scaled(1.0 * off, "BatchNorm2d")
    (finding,) = named(layers).diagnose(RULES).findings
    assert (finding.rule, finding.layer) == ("exploding", "convd")
    assert finding.message == "rms 250 after 1 in bnc"


def test_a_layer_that_keeps_its_scale_is_not_the_one_that_did_it() -> None:
    """A bounded gate comes right before the convolution that explodes, in the second block."""
    layers = {}
    for i in range(5):
        loud = 150.0 if i >= 1 else 1.0
        layers[f"{i}.expand"] = scaled(150.0 if i >= 2 else 1.0, "Conv2d")
        layers[f"{i}.gate"] = layer_of(torch.rand(400, 2), "Hardsigmoid", 0.0, 1.0)
        layers[f"{i}.project"] = scaled(0.2 * loud, "Conv2d")
    assert where(named(layers).diagnose(RULES).findings) == [("exploding", "1.project")]


def test_a_layer_that_comes_back_to_what_others_have_is_not_the_one_that_did_it() -> None:
    """A quiet convolution before it makes the step of a normalisation large, not its level."""
    layers = {}
    for i, (quiet, loud) in enumerate([(1.0, 0.2)] * 5 + [(0.01, 0.15), (0.5, 6.0)]):
        layers[f"{i}.conv"] = scaled(quiet, f"Conv{chr(97 + i)}")
        layers[f"{i}.norm"] = scaled(loud, "BatchNorm2d")
    layers |= {"last.conv": scaled(3.0, "ConvLast"), "last.norm": scaled(35.0, "BatchNorm1d")}
    (finding,) = named(layers).diagnose(RULES).findings
    assert (finding.rule, finding.layer) == ("exploding", "6.norm")
    assert finding.message == ("rms 6; last.norm shows 35, where a normalisation gives about 1")


def test_normalisations_are_compared_with_1() -> None:
    assert where(found([400.0] * 5, "BatchNorm2d")) == [("exploding", "a")]
    assert where(found([400.0], "LayerNorm", depth=3)) == []  # there is too little of all else
    assert found([400.0] * 5) == []
    (finding,) = profile_of(
        *(scaled(s, t) for s, t in ((1, "Linear"), (1, "GELU"), (300, "LayerNorm"), (2, "Linear")))
    ).diagnose(RULES)
    assert (finding.rule, finding.layer) == ("exploding", "c")


def test_normalisations_are_compared_with_1_both_ways() -> None:
    assert where(found([1 / 29] * 5, "BatchNorm2d")) == []
    assert where(found([1 / 31] * 5, "BatchNorm2d")) == [("vanishing", "a")]
    assert found([1 / 31] * 5) == []
    (finding,) = profile_of(
        *(
            scaled(s, t)
            for s, t in ((1, "Linear"), (1, "GRU"), (1e-3, "LayerNorm"), (0.5, "Linear"))
        )
    ).diagnose(RULES)
    assert (finding.rule, finding.layer) == ("vanishing", "c")
    assert finding.message == "std 0.001, where a normalisation gives about 1"


def test_few_layers_of_many_types() -> None:
    """They say little of each other, but one far above all before it, and above 1, is off."""

    def of(*scales: float) -> list[tuple[str, str]]:
        types = ("Embedding", "GRU", "Tanh", "Linear")
        layers = (scaled(s, t) for s, t in zip(scales, types, strict=True))
        return where(profile_of(*layers).diagnose(RULES).findings)

    assert of(1.0, 0.05, 1.0, 3.0) == []
    assert of(1.0, 0.05, 1.0, 29.0) == []
    assert of(1.0, 0.05, 1.0, 31.0) == [("exploding", "d")]
    assert of(0.01, 0.0005, 0.01, 0.9) == []  # far above those before it, but not above 1


def test_vanishing_looks_at_what_varies() -> None:
    """The std falls a millionfold under a mean of 0.5, which the rms does not show."""
    noise = torch.randn(400, 4, dtype=torch.float64)
    layers = [layer_of(0.5 + 0.2 * 0.1**i * noise, "Sigmoid") for i in range(6)]
    (finding,) = profile_of(*layers).diagnose(RULES)
    assert (finding.rule, finding.layer) == ("vanishing", "f")
    assert finding.evidence["factor_per_layer"] == pytest.approx(0.1)
    assert finding.evidence["std_last"] == pytest.approx(2e-6, rel=0.1)


def test_a_layer_of_zeros_is_no_step() -> None:
    zeros = layer_of(torch.zeros(400, 2), "Linear")
    layers = [scaled(1.0), scaled(1.0), zeros, scaled(1.0), scaled(1.0)]
    assert profile_of(*layers).diagnose(RULES).findings == []


@pytest.mark.parametrize(("gain", "rule"), [(30.0, "exploding"), (0.03, "vanishing")])
def test_a_real_model(gain: float, rule: str) -> None:
    torch.manual_seed(0)
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
    torch.manual_seed(0)
    layers = [part for _ in range(8) for part in (nn.Linear(16, 16), nn.Sigmoid())]
    model = nn.Sequential(*layers)
    with fmstats.track(model, include=nn.Linear, of="grad_output") as tracker:
        model(torch.randn(400, 16)).sum().backward()
    (finding,) = tracker.stats().diagnose(["vanishing"])
    assert finding.layer == "0"  # the last in the order of the backward pass


def test_a_first_gradient_is_not_expected_to_be_of_the_order_of_1() -> None:
    """Of gradients a large first one is no oddity: what follows it has shrunk."""
    layers = [scaled(s) for s in (1e-9, 1e-12, 1e-12, 1e-12)]
    assert where(profile_of(*layers, of="grad_output").diagnose(RULES).findings) == [
        ("vanishing", "b")
    ]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_healthy_depth(scale: float) -> None:
    assert found([scale * math.exp(math.sin(i)) for i in range(30)]) == []
