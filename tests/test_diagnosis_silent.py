"""Rules for what says nothing, each at its boundary."""

from __future__ import annotations

import pytest
import torch
from diagnosis_profiles import healthy, layer_of, profile_of
from torch import Tensor

from fmstats import Finding


def found(x: Tensor, rule: str, type: str = "ReLU", **thresholds: float) -> list[Finding]:
    return profile_of(layer_of(x, type)).diagnose([rule], thresholds).findings


@pytest.mark.parametrize("rule", ["never-active", "dead", "constant", "sparse", "one-sided"])
def test_healthy(rule: str) -> None:
    assert found(healthy(), rule, "Linear") == []


def test_dead() -> None:
    x = healthy()
    x[10:, 1] = 0  # 99 % zeros
    assert found(x, "dead") == []
    x[9, 1] = 0
    (finding,) = found(x, "dead")
    assert finding.message == "1 of 4 channels (1): 0 in more than 99 % of the elements"
    assert (finding.severity, finding.channels, finding.width) == ("warning", (1,), 4)
    assert finding.evidence == {"calls": 1, "samples": 1000, "elements": 1000, "sparsity": 0.991}
    assert finding.thresholds == {"dead": 0.99, "elements": 300, "samples": 10}
    assert found(x, "dead", dead=0.995) == []


def test_never_active() -> None:
    x = healthy()
    x[:, 0], x[:, 3] = 0, -0.0
    (finding,) = found(x, "never-active")
    assert finding.message == "2 of 4 channels (0, 3): exactly 0 in each of 1,000 finite elements"
    x[5, 3] = 1e-30
    (finding,) = found(x, "never-active")
    assert finding.channels == (0,)


def test_nan_is_not_called_zero() -> None:
    """A channel of zeros and NaN: the message must not claim a zero in each element."""
    x = healthy()
    x[:, 0] = 0
    x[:400, 0] = float("nan")
    (finding,) = found(x, "never-active")
    assert "each of 600 finite elements" in finding.message
    assert finding.evidence["elements"] == 1000


def test_never_active_is_not_called_dead_as_well() -> None:
    x = healthy()
    x[:, 0], x[1:, 2] = 0, 0
    diagnosis = profile_of(layer_of(x)).diagnose(["dead", "never-active"])
    assert [(f.rule, f.channels) for f in diagnosis] == [("never-active", (0,)), ("dead", (2,))]
    assert diagnosis.measures["dead"].value == 0.5  # but it counts
    (alone,) = found(x, "dead")
    assert alone.channels == (0, 2)


def test_constant() -> None:
    x = healthy()
    x[:, 1], x[:, 2], x[:, 3] = 0.3, 0, -5
    (finding,) = found(x, "constant")
    assert finding.channels == (1, 3)
    assert finding.message.endswith("in each of 1,000 finite elements, between -5 and 0.3")
    x[0, 1] = 0.3001
    (finding,) = found(x, "constant")
    assert finding.message.endswith("finite elements, -5")
    assert found(x, "constant", constant=1e-3)[0].channels == (1, 3)
    # The spread is a share of the channel's own scale.
    x[:, 0] *= 1e-9
    x[:, 1] = torch.where(torch.arange(1000) % 2 == 0, 1e9, 1e9 + 64)
    (finding,) = found(x, "constant")
    assert finding.channels == (1, 3)


def test_sparse() -> None:
    x = healthy(1000, 2)
    x[50:] = 0  # 95 % zeros
    assert found(x, "sparse") == []
    x[49, 1] = 0
    (finding,) = found(x, "sparse")
    assert finding.message == "95.05 % of its 2,000 elements are 0"
    assert (finding.severity, finding.channels) == ("warning", ())
    x[1:] = 0
    assert found(x, "sparse")[0].severity == "warning"
    (finding,) = found(torch.zeros(1000, 2), "sparse")
    assert (finding.severity, finding.message) == ("error", "each of its 2,000 elements is 0")


def test_one_sided() -> None:
    x = healthy()
    x[:, 1], x[:, 2] = x[:, 1].abs(), -x[:, 2].abs()
    (finding,) = found(x, "one-sided", "Conv2d")
    assert finding.message == "2 of 4 channels (1, 2): 1 never below 0, 1 never above 0"
    assert finding.severity == "info"
    assert found(x, "one-sided", "ReLU") == []  # a ReLU cannot be otherwise


def test_one_sided_is_said_of_outputs_alone() -> None:
    x = healthy().abs()
    of_input = profile_of(layer_of(x, "Conv2d"), of="input")
    assert of_input.diagnose(["one-sided"]).findings == []


def test_one_sided_leaves_silent_channels_to_their_rules() -> None:
    x = healthy()
    x[:, 0], x[:, 1] = 0, 3
    profile = profile_of(layer_of(x, "Conv2d"))
    rules = {f.rule: f.channels for f in profile.diagnose()}
    assert rules == {"never-active": (0,), "constant": (1,)}
