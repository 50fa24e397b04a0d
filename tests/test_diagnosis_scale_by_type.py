"""Scale of layers that no other is like: what their type gives by itself."""

from __future__ import annotations

import pytest
import torch
from diagnosis_profiles import profile_of, scaled
from torch import nn

import fmstats
from fmstats import Finding

RULES = ["exploding", "vanishing"]
Kinds = tuple[tuple[str, float], ...]


def found(*layers: tuple[str, float], of: str = "output", **thresholds: float) -> list[Finding]:
    profile = profile_of(*(scaled(scale, type) for type, scale in layers), of=of)
    return profile.diagnose(RULES, thresholds).findings


def where(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.rule, finding.layer) for finding in findings]


def recurrent(head: float, before: float = 1.0) -> Kinds:
    return ("Embedding", 1.0), ("LSTM", 0.05), ("LayerNorm", before), ("Linear", head)


def test_a_weighted_sum_far_below_what_ran_before_it_has_shrunk() -> None:
    """The LSTM is as small by rights, so all layers before it show less."""
    (finding,) = found(*recurrent(1 / 31))
    assert (finding.rule, finding.layer) == ("vanishing", "d")
    assert finding.message == "std 0.03226 after 1 in c"
    assert finding.evidence["std_before"] == pytest.approx(1.0)
    assert found(*recurrent(1 / 29)) == []
    assert where(found(*recurrent(1 / 29), growth=28)) == [("vanishing", "d")]


def test_it_must_be_below_1_and_below_what_ran_before_it() -> None:
    assert found(("Embedding", 1.0), ("GRU", 0.05), ("Tanh", 25.0), ("Linear", 0.5)) == []
    assert found(*recurrent(0.01, before=0.2)) == []
    assert where(found(*recurrent(0.01, before=0.5))) == [("vanishing", "d")]


@pytest.mark.parametrize("type", ["Softmax", "AdaptiveAvgPool2d", "Dropout", "GRU", "Embedding"])
def test_what_is_no_weighted_sum_may_shrink_by_rights(type: str) -> None:
    layers = (("Flatten", 1.0), ("LSTM", 1e-3), ("Tanh", 1.0))
    assert found(*layers, (type, 1e-3)) == []
    assert where(found(*layers, ("Linear", 1e-3))) == [("vanishing", "d")]
    assert found((type, 1e-3), *layers) == []


@pytest.mark.parametrize("type", ["Linear", "Conv2d", "ConvTranspose1d", "Conv1D", "QuantLinear"])
def test_weighted_sums_are_told_by_their_names(type: str) -> None:
    layers = (("Flatten", 1.0), ("LSTM", 1e-3), ("Tanh", 1.0))
    assert where(found(*layers, (type, 1e-3))) == [("vanishing", "d")]


def first(scale: float, after: float = 1.0) -> Kinds:
    return ("Conv2d", scale), ("PReLU", after), ("MaxPool2d", after), ("Linear", after)


def test_a_first_layer_is_compared_with_1() -> None:
    """Though all that follow are as small or as large: 30 to the power of 1.5 is 164."""
    assert where(found(*first(1 / 170, 1 / 170))) == [("vanishing", "a")]
    assert where(found(*first(170.0, 170.0))) == [("exploding", "a")]
    assert found(*first(1 / 160, 1 / 160)) == []
    assert found(*first(160.0, 160.0)) == []
    (finding,) = found(*first(200.0))
    assert finding.message == "rms 200, where a first layer of inputs near 1 gives about 1"


def test_not_what_others_are_like() -> None:
    """A whole network of another scale is no news; nor is one step of those that differ so."""
    assert found(*[("Linear", 1e-3)] * 4) == []
    assert found(*[("Linear", 1e3)] * 4) == []
    assert found(*[("Linear", 1.0), ("Conv2d", 0.01)] * 4) == []


def test_nor_gradients() -> None:
    """Which may have any scale."""
    assert found(*first(1e-4, 1e-4), of="grad_output") == []
    assert found(*recurrent(0.01), of="grad_output") == []


def test_zeros_in_front_are_passed_over() -> None:
    (finding,) = found(("GRU", 1.0), ("Tanh", 0.5), ("ReLU", 0.0), ("Linear", 1e-3))
    assert finding.message == "std 0.001 after 0.5 in b"
    # With a first layer of zeros, the next one is still not the first.
    assert found(("Conv2d", 0.0), ("Linear", 1e-3), ("ReLU", 1e-3), ("Tanh", 1e-3)) == []


def test_a_real_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.LayerNorm(32), nn.Linear(32, 8))
    x = torch.randn(400, 16)
    assert fmstats.profile(model, x).diagnose(RULES).findings == []
    for name in ("0", "3"):
        layer = model.get_submodule(name)
        with torch.no_grad():
            layer.weight.div_(500)
        findings = fmstats.profile(model, x).diagnose(RULES).findings
        assert where(findings)[0] == ("vanishing", name)
        with torch.no_grad():
            layer.weight.mul_(500)
    assert where(fmstats.profile(model, 255 * (x + 1)).diagnose(RULES).findings) == [
        ("exploding", "0")
    ]
