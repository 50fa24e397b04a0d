"""Rules for what says nothing, each at its boundary."""

from __future__ import annotations

import math

import pytest
import torch
from diagnosis_profiles import healthy, layer_of, profile_of
from torch import Tensor

from fmstats import Finding, LayerProfile
from fmstats.diagnosis.silent import TABLES, TWO_SIDED


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


def one_row(type: str = "Embedding") -> LayerProfile:
    """Each channel always the same."""
    return layer_of(torch.linspace(-1, 1, 4).repeat(1000, 1), type)


def test_a_table_asked_for_one_row_is_no_fault() -> None:
    """A BERT's one segment is such a table; what only repeats it is not reported again."""
    layers = [one_row(), one_row("LayerNorm"), layer_of(healthy(), "Linear")]
    findings = profile_of(*layers).diagnose(["constant"]).findings
    assert [(f.layer, f.severity, f.follows) for f in findings] == [
        ("a", "info", None),
        ("b", "info", "a"),
    ]
    assert findings[0].message.endswith("between -1 and 1; one row of the table was asked for")
    some = torch.linspace(-1, 1, 4).repeat(1000, 1)
    some[:, 2] = torch.randn(1000)
    (finding,) = found(some, "constant", "Embedding")
    assert (finding.severity, finding.channels) == ("warning", (0, 1, 3))


def test_a_layer_that_never_varies_is_a_fault_that_goes_on() -> None:
    x = torch.linspace(0, 1, 4).repeat(1000, 1)  # a zero among them
    layers = [one_row("Linear"), layer_of(x, "ReLU"), layer_of(healthy()), one_row("Linear")]
    findings = profile_of(*layers).diagnose(["constant"]).findings
    assert [(f.layer, f.severity, f.follows) for f in findings] == [
        ("a", "warning", None),
        ("b", "warning", "a"),
        ("d", "warning", None),
    ]


def test_padding_is_not_sparse() -> None:
    """Nor dead: a channel that is active in 40 % of what is no padding is in 0.8 % of all."""
    x = healthy(20_000, 8)
    x[400:] = 0
    behind = x.relu()
    behind[:, 3] = 0
    profile = profile_of(layer_of(x, "Embedding"), layer_of(behind))
    assert (behind == 0).float().mean() > 0.98
    findings = profile.diagnose(["sparse", "dead", "never-active"]).findings
    assert [(f.layer, f.rule, f.channels) for f in findings] == [("b", "never-active", (3,))]
    x[4:400] = 0
    (row,) = profile_of(layer_of(x, "Embedding")).diagnose(["sparse"]).not_enough_data
    assert row.reason == "0 in every channel at 19,996 of 20,000 positions"


def padded(filled: int, positions: int = 1000, channels: int = 12) -> Tensor:
    """Both signs where it is filled, and 0 behind that."""
    x = healthy(positions, channels)
    x[filled:] = 0
    return x


@pytest.mark.parametrize(("filled", "enough"), [(300, True), (299, False)])
def test_a_channel_is_dead_in_what_is_no_padding(filled: int, enough: bool) -> None:
    x = padded(filled)
    x[2:filled, 3] = 0
    diagnosis = profile_of(layer_of(x)).diagnose(["dead"])
    blank = 1000 - filled
    if enough:
        (finding,) = diagnosis.findings
        assert finding.channels == (3,)
        assert finding.evidence["sparsity"] == pytest.approx(1 - 2 / filled)
        assert finding.message.endswith(
            f"99 % of the elements, without {blank} positions where every channel is 0"
        )
        assert diagnosis.not_enough_data == []
        x[3, 3] = x[2, 3] = 1  # four of them are more than a hundredth
        assert found(x, "dead") == []
    else:
        assert diagnosis.findings == []
        (row,) = diagnosis.not_enough_data
        assert row.channels == 12
        assert row.reason == f"0 in every channel at {blank} of 1,000 positions"


def test_too_few_numbers_are_no_matter_of_padding() -> None:
    x = padded(400)
    x[:200, 3] = math.nan
    (row,) = profile_of(layer_of(x)).diagnose(["dead"]).not_enough_data
    assert (row.channels, row.reason) == (1, "0 in every channel at 600 of 1,000 positions")
    x[200:, 3] = math.nan
    (row,) = profile_of(layer_of(x)).diagnose(["dead"]).not_enough_data
    assert (row.channels, row.reason) == (1, "0 finite elements seen, 300 needed")


@pytest.mark.parametrize(("filled", "enough"), [(75, True), (74, False)])
def test_a_layer_is_sparse_in_what_is_no_padding(filled: int, enough: bool) -> None:
    """Of four channels: 300 elements are enough."""
    x = padded(filled, channels=4)
    x[1:filled, :3] = 0
    x[1:filled, 3] = 0
    x[1, 0] = 1
    diagnosis = profile_of(layer_of(padded(filled, channels=4)), layer_of(x)).diagnose(["sparse"])
    assert [finding.layer for finding in diagnosis] == (["b"] if enough else [])
    rows = [] if enough else ["a", "b"]
    assert [row.layer for row in diagnosis.not_enough_data] == rows
    assert {row.reason for row in diagnosis.not_enough_data} <= {
        f"0 in every channel at {1000 - filled} of 1,000 positions"
    }


def test_a_message_counts_the_least_of_the_channels() -> None:
    for value, rule in ((0.0, "never-active"), (3.0, "constant")):
        x = healthy()
        x[:, 1:3] = value
        x[:100, 1], x[:250, 2] = math.nan, math.nan
        (finding,) = found(x, rule)
        assert finding.evidence["finite_elements"] == 750
        assert "in each of 750 finite elements" in finding.message


def test_types_are_those_of_torch() -> None:
    assert all(hasattr(torch.nn, name) for name in TWO_SIDED | TABLES)
    for name in ("Conv", "ConvTranspose", "BatchNorm", "InstanceNorm"):
        assert {f"{name}{d}d" for d in (1, 2, 3)} <= TWO_SIDED


def test_what_is_sparse_beside_the_padding_is_told() -> None:
    x = healthy(20_000, 8)
    x[10_000:] = 0
    behind = (x - 2.5).relu()
    profile = profile_of(layer_of(x, "Embedding"), layer_of(behind))
    (finding,) = profile.diagnose(["sparse"]).findings
    assert finding.layer == "b"
    assert finding.message.endswith("without 10,000 positions where every channel is 0")
    share = float((behind[:10_000] == 0).float().mean())
    assert finding.evidence["sparsity"] == pytest.approx(share)


@pytest.mark.parametrize("channels", [2, 8])
def test_zeros_that_differ_from_channel_to_channel_are_no_padding(channels: int) -> None:
    x = healthy(2000, channels)
    for channel in range(channels):
        x[40 + (channel if channels > 2 else 0) :, channel] = 0
    (finding,) = found(x, "sparse")
    assert "without" not in finding.message
    assert finding.evidence["zeros"] == int((x == 0).sum())


def test_padding_is_of_layers_with_as_many_positions() -> None:
    x = healthy(20_000, 8)
    x[400:] = 0
    other = torch.cat([healthy(300, 8), torch.zeros(9700, 8)])
    other[300:310, :4] = 1  # not alike in the channels
    layers = [layer_of(x, "Embedding"), layer_of(other)]
    (finding,) = profile_of(*layers).diagnose(["sparse"]).findings
    assert finding.layer == "b"


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
