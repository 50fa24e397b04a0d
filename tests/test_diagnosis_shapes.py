"""Rules by measures on request: on data that has what they look for, and on data that has not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diagnosis_profiles import healthy, layer_of, profile_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fmstats import Diagnosis, Finding, LayerProfile
from fmstats.diagnosis import RULES
from fmstats.diagnosis.shapes import kurtosis_of_nonzero
from fmstats.statistic.bins import Bins
from fmstats.statistic.measures import Measures

KURTOSIS = Measures.of("kurtosis")
SATURATED = ("saturated-low", "saturated-high", "saturated-both")
SCOPES = ("layer", "channel")


def histogram(scope: str = "layer", resolution: int = 4) -> Measures:
    return Measures.of("histogram", Bins(scope, resolution))


def found(layer: LayerProfile, *rules: str, **thresholds: float) -> list[Finding]:
    return profile_of(layer).diagnose(rules, thresholds).findings


# --- heavy tails


def spiked(size: float, zeros: float = 0.0) -> Tensor:
    """Normal numbers, and in channel 1 an outlier of this size in every thousand."""
    torch.manual_seed(0)
    x = torch.randn(4000, 3, dtype=torch.float64)
    x[::1000, 1] = size
    x[1::1000, 1] = -size
    x[torch.rand(x.shape) < zeros] = 0
    return x


def test_heavy_tails() -> None:
    (finding,) = found(layer_of(spiked(30.0), "Linear", measures=KURTOSIS), "heavy-tails")
    assert (finding.channels, finding.severity) == ((1,), "info")
    x = spiked(30.0)[:, 1].numpy()
    kurtosis = float(((x - x.mean()) ** 4).mean() / x.var() ** 2)
    assert finding.evidence["kurtosis"] == pytest.approx(kurtosis, rel=1e-9)
    assert finding.message == (
        f"1 of 3 channels (1): kurtosis up to {kurtosis:.4g} without zeros, so that elements are "
        f"{math.sqrt(kurtosis):.3g} standard deviations off the mean, or farther"
    )
    assert np.abs(x - x.mean()).max() / x.std() > math.sqrt(kurtosis)


@pytest.mark.parametrize(
    "draw", ["normal", "laplace", "exponential", "uniform", "relu", "lognormal"]
)
def test_usual_distributions_have_no_heavy_tails(draw: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(20_000, 3)
    x = {
        "normal": x,
        "laplace": torch.distributions.Laplace(0.0, 1.0).sample(x.shape),
        "exponential": torch.empty_like(x).exponential_(),
        "uniform": torch.rand(x.shape),
        "relu": (x - 2).clamp(min=0),  # 2 % of it is not 0
        "lognormal": (x / 2).exp(),
    }[draw]
    assert found(layer_of(x, measures=KURTOSIS), "heavy-tails") == []


def test_the_bound_of_tails() -> None:
    layer = layer_of(spiked(30.0), measures=KURTOSIS)
    (finding,) = found(layer, "heavy-tails")
    kurtosis = finding.evidence["kurtosis"]
    assert found(layer, "heavy-tails", tails=kurtosis) == []
    assert len(found(layer, "heavy-tails", tails=kurtosis * 0.999)) == 1


def test_zeros_are_no_tails_and_hide_none() -> None:
    """A channel that is rarely active has a large kurtosis, of which zeros are the reason."""
    x = spiked(1.0)
    x[torch.rand(x.shape) < 0.9] = 0
    layer = layer_of(x, measures=Measures.of("kurtosis"))
    assert layer.stats.kurtosis.max() > 20
    assert kurtosis_of_nonzero(layer.stats).max() < 5
    assert found(layer, "heavy-tails", tails=20) == []
    both = found(layer_of(spiked(40.0, zeros=0.4), measures=KURTOSIS), "heavy-tails")
    assert [finding.channels for finding in both] == [(1,)]


def test_few_elements_beside_zeros_have_no_tails() -> None:
    x = torch.zeros(4000, 1)
    x[:299] = torch.randn(299, 1)
    x[0] = 1e3
    assert found(layer_of(x, measures=KURTOSIS), "heavy-tails") == []
    x[299] = 1.0
    assert len(found(layer_of(x, measures=KURTOSIS), "heavy-tails")) == 1


@given(st.integers(0, 2**16), st.floats(0, 0.99), st.floats(-50, 50))
def test_the_kurtosis_without_zeros(seed: int, zeros: float, offset: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_t(5, (400, 2)) + offset
    x[rng.random(x.shape) < zeros] = 0
    got = kurtosis_of_nonzero(layer_of(torch.from_numpy(x), measures=KURTOSIS).stats)
    for channel, kurtosis in enumerate(got.tolist()):
        rest = x[x[:, channel] != 0, channel]
        if math.isnan(kurtosis):  # rounding would leave nothing of it
            assert (x[:, channel] == 0).any() or len(rest) < 2
        else:
            want = np.mean((rest - rest.mean()) ** 4) / np.var(rest) ** 2
            assert kurtosis == pytest.approx(want, rel=1e-3, abs=1)


def test_masks_and_constants_have_no_tails() -> None:
    x = torch.zeros(4000, 3, dtype=torch.float64)
    x[::7], x[:, 1] = 3.3, 7.0
    x[:, 2] = torch.where(x[:, 2] > 0, 1.0 + 1e-9 * torch.randn(4000), 0.0)
    assert np.isnan(kurtosis_of_nonzero(layer_of(x, measures=KURTOSIS).stats)).all()
    assert found(layer_of(x, measures=KURTOSIS), "heavy-tails", tails=1) == []


# --- switches


def gate(open_share: float, between: float, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Channels of which a share is at the upper of two values, another spread between them."""
    torch.manual_seed(0)
    draw = torch.rand(4000, 4)
    x = torch.where(draw < open_share * (1 - between), high, low)
    return torch.where(draw > 1 - between, low + (high - low) * torch.rand(4000, 4), x)


def gate_layer(x: Tensor, measures: Measures = KURTOSIS) -> LayerProfile:
    return layer_of(x, "Sigmoid", 0.01, 0.99, measures=measures)


def test_a_switch_is_told_from_saturation() -> None:
    layer = gate_layer(gate(0.3, 0.05))
    (finding,) = found(layer, "switch", *SATURATED)
    assert (finding.rule, finding.severity, finding.channels) == ("switch", "info", (0, 1, 2, 3))
    assert finding.evidence["low"] == pytest.approx(0, abs=0.02)
    assert finding.evidence["high"] == pytest.approx(1, abs=0.02)
    assert finding.evidence["share_of_high"] == pytest.approx(0.3, abs=0.03)
    assert ": about 0.01 or 0.99, and little between; 31 % of the elements" in finding.message
    (alone,) = found(layer, *SATURATED)
    assert alone.rule == "saturated-low"


def test_without_the_measure_it_is_saturation() -> None:
    for measures in (Measures(), histogram()):
        findings = found(gate_layer(gate(0.3, 0.05), measures), "switch", *SATURATED)
        assert [finding.rule for finding in findings] == ["saturated-low"]


def test_two_values_that_are_not_the_bounds() -> None:
    (finding,) = found(gate_layer(gate(0.5, 0.0, 0.2, 0.7)), "switch", *SATURATED)
    assert finding.rule == "switch"
    assert finding.evidence["low"] == pytest.approx(0.2, abs=1e-6)
    assert finding.evidence["high"] == pytest.approx(0.7, abs=1e-6)


@pytest.mark.parametrize(
    ("share", "between", "rules"),
    [
        (0.5, 0.05, ["switch"]),
        (0.5, 0.4, ["saturated-both"]),  # much in between
        (0.03, 0.0, ["saturated-low"]),  # nearly always closed
        (0.97, 0.0, ["saturated-high"]),
        (0.5, 1.0, []),  # uniform
    ],
)
def test_what_is_a_switch(share: float, between: float, rules: list[str]) -> None:
    findings = found(gate_layer(gate(share, between)), "switch", *SATURATED)
    assert [finding.rule for finding in findings] == rules


def test_saturation_beside_switches_is_still_graded_by_what_is_left() -> None:
    x = gate(0.3, 0.0)
    x = torch.cat([x] * 5, 1)
    x[:, 0] = 0.0
    x[0, 0] = 0.5
    switch, low = found(gate_layer(x), "switch", *SATURATED)
    if switch.rule != "switch":
        switch, low = low, switch
    assert (switch.rule, len(switch.channels)) == ("switch", 19)
    assert (low.rule, low.severity, low.channels) == ("saturated-low", "info", (0,))


def test_an_activation_between_other_bounds_is_no_gate() -> None:
    x = gate(0.45, 0.0) * 2 - 1
    layer = layer_of(x, "Tanh", -0.99, 0.99, measures=KURTOSIS)
    assert [f.rule for f in found(layer, "switch", *SATURATED)] == ["saturated-low"]


# --- concentrated


def stuck(share: float, at: float = 3.0, channels: int = 4) -> Tensor:
    """Elements of which a share is near one number, and the rest normal."""
    torch.manual_seed(0)
    x = torch.randn(4000, channels, dtype=torch.float64)
    near = at * (1 + 0.02 * torch.rand(x.shape, dtype=torch.float64))
    return torch.where(torch.rand(x.shape) < share, near, x)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("resolution", [4, 5, 6])
@pytest.mark.parametrize("at", [3.0, -0.7, 0.99, 100.0])
def test_a_concentrated_layer(scope: str, resolution: int, at: float) -> None:
    x = stuck(0.996, at)
    layer = layer_of(x, "Linear", measures=histogram(scope, resolution))
    (finding,) = found(layer, "concentrated", "collapsed")
    assert (finding.rule, finding.severity, finding.channels) == ("concentrated", "warning", ())
    assert finding.evidence["share"] == pytest.approx(0.996, abs=0.002)
    assert finding.evidence["near"] == pytest.approx(at, rel=0.07)
    middle = "of the channel in the middle" in finding.message
    assert middle == (scope == "channel")
    assert found(layer, "concentrated", concentrated=0.999) == []


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    "x",
    [healthy(4000), healthy(4000) + 5, stuck(0.95), healthy(4000).relu(), healthy(4000).sigmoid()],
    ids=["normal", "with a mean", "often", "ReLU", "sigmoid"],
)
def test_what_is_not_concentrated(scope: str, x: Tensor) -> None:
    assert found(layer_of(x, measures=histogram(scope)), "concentrated") == []


@pytest.mark.parametrize("scope", SCOPES)
def test_zeros_are_the_business_of_other_rules(scope: str) -> None:
    x = torch.where(torch.rand(4000, 4) < 0.997, 0.0, torch.randn(4000, 4))
    assert found(layer_of(x, measures=histogram(scope)), "concentrated") == []


@pytest.mark.parametrize("scope", SCOPES)
def test_constant_channels_are_the_business_of_constant(scope: str) -> None:
    x = torch.full((4000, 4), 2.0)
    assert found(layer_of(x, measures=histogram(scope)), "concentrated") == []


@pytest.mark.parametrize("unit", [1e5, -1e5, 1e-9, -1e-9])
def test_numbers_that_no_bin_tells_apart_are_not_near_each_other(unit: float) -> None:
    x = unit * (1 + torch.rand(4000, 4, dtype=torch.float64))
    assert found(layer_of(x, measures=histogram()), "concentrated") == []


def test_both_signs_are_two_numbers() -> None:
    x = stuck(0.998)
    x[::2] *= -1
    assert found(layer_of(x, measures=histogram()), "concentrated") == []


def test_a_collapse_to_a_mean_is_told_once() -> None:
    x = 5 + 1e-4 * torch.randn(4000, 4, dtype=torch.float64)
    layer = layer_of(x, measures=histogram())
    assert [f.rule for f in found(layer, "collapsed", "concentrated")] == ["collapsed"]
    assert [f.rule for f in found(layer, "concentrated")] == ["concentrated"]


def test_the_channel_in_the_middle_of_those_that_vary() -> None:
    x = torch.cat([stuck(0.997, channels=3), healthy(4000, 2), torch.full((4000, 8), 3.0)], 1)
    layer = layer_of(x, measures=histogram("channel"))
    assert len(found(layer, "concentrated")) == 1
    x[:, 0] = torch.randn(4000)
    assert found(layer_of(x, measures=histogram("channel")), "concentrated") == []


def test_coarse_bins_are_no_evidence() -> None:
    layer = layer_of(stuck(1.0), measures=histogram("layer", 3))
    (row,) = profile_of(layer).diagnose("concentrated").not_enough_data
    assert row.reason == "a histogram of 16 or more bins an octave is needed (resolution=)"


# --- what was not measured


def diagnosed(measures: Measures, *rules: str) -> Diagnosis:
    return profile_of(layer_of(healthy(), "Linear", measures=measures)).diagnose(rules or None)


def test_what_needs_a_measure_is_silent_without_it() -> None:
    plain = diagnosed(Measures())
    of_kind = {name: rule.needs for name, rule in RULES.items() if rule.needs}
    assert plain.unmeasured == plain.to_dict()["unmeasured"] == of_kind
    assert str(plain) == "nothing found"
    assert plain.not_enough_data == []
    assert plain.measures["switch"].reason == "it needs measure='kurtosis'"


def test_what_was_asked_for_and_not_measured_is_told() -> None:
    assert str(diagnosed(Measures(), "dead", "heavy-tails")) == (
        "nothing found\n\nNot judged, since not measured: heavy-tails by measure='kurtosis'"
    )
    assert str(diagnosed(KURTOSIS)) == (
        "nothing found\n\nNot judged, since not measured: concentrated by measure='histogram'"
    )
    assert str(diagnosed(histogram())) == (
        "nothing found\n\nNot judged, since not measured: switch, heavy-tails by measure='kurtosis'"
    )
    everything = diagnosed(Measures.of(("kurtosis", "histogram")))
    assert (everything.unmeasured, str(everything)) == ({}, "nothing found")
    assert diagnosed(Measures(), "dead").unmeasured == {}


def test_measures_change_nothing_of_other_rules() -> None:
    """But of those that count with them what they bound without."""
    x = healthy(2000, 8)
    x[:, 0], x[:, 1], x[5, 2], x[:, 3] = 0, 2.0, math.nan, x[:, 3] * 3e4
    plain, measured = (
        profile_of(*[layer_of(x, "Linear", -2.0, 2.0, measures=measures)] * 4).diagnose()
        for measures in (Measures(), Measures.of(("abs", "kurtosis", "histogram")))
    )
    told = [[f for f in d if not f.rule.startswith("range-")] for d in (plain, measured)]
    assert told[0] == told[1]
    assert [(f.layer, f.rule, f.channels) for f in plain] == [
        (f.layer, f.rule, f.channels) for f in measured
    ]
    assert len({finding.rule for finding in plain}) >= 5
