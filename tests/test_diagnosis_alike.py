"""Representations that collapse, and neurons that cannot be distinguished."""

from __future__ import annotations

import pytest
import torch
from diagnosis_profiles import healthy, layer_of, profile_of
from torch import Tensor, nn

import fmstats
from fmstats import Finding


def found(x: Tensor, rule: str, **thresholds: float) -> list[Finding]:
    return profile_of(layer_of(x, "Linear")).diagnose([rule], thresholds).findings


def spread(ratio: float, channels: int = 8) -> Tensor:
    """Channels of several means, whose std is this share of their rms."""
    x = torch.ones(400, channels, dtype=torch.float64)
    x[::2] += 2 * ratio
    return (x - ratio) * torch.linspace(-2, 3, channels, dtype=torch.float64)


def test_collapsed() -> None:
    (finding,) = found(spread(8e-5), "collapsed")
    assert (finding.severity, finding.channels) == ("warning", ())
    assert finding.evidence["variation"] == pytest.approx(8e-5, rel=1e-3)
    assert finding.message.startswith("std is 8e-05 of the rms in the channel in the middle: ")
    assert found(spread(1.1e-3), "collapsed") == []
    assert len(found(spread(1.1e-3), "collapsed", collapsed=2e-3)) == 1


def test_the_usual_channel_decides_not_one_large_one() -> None:
    x = healthy(400, 8)
    x[:, 0] += 1e6  # a channel that is a bias, as large as that of an attention sink
    assert found(x, "collapsed") == []
    y = spread(8e-5)
    y[:, :3] = torch.randn(400, 3)
    assert len(found(y, "collapsed")) == 1


def test_channels_that_never_vary_are_left_to_their_rules() -> None:
    x = torch.ones(400, 8)
    x[:, 1] = 0
    assert found(x, "collapsed") == []
    x[:, 2] = torch.randn(400)
    assert found(x, "collapsed") == []


def test_a_collapse_that_goes_on_is_one_group() -> None:
    layers = [layer_of(spread(r), "Linear") for r in (1e-4, 2e-4, 1.0, 1e-5)]
    findings = profile_of(*layers).diagnose(["collapsed"]).findings
    assert [(f.layer, f.follows) for f in findings] == [("a", None), ("b", "a"), ("d", None)]


def alike(share: float, channels: int = 16) -> Tensor:
    x = torch.randn(400, channels, generator=torch.Generator().manual_seed(0))
    same = int(share * channels)
    x[:, :same] = x[:, :1]
    return x


def test_identical() -> None:
    (finding,) = found(alike(0.75), "identical")
    assert (finding.severity, finding.channels) == ("warning", tuple(range(12)))
    mean, std = alike(0.75)[:, 0].double().mean(), alike(0.75)[:, 0].double().std()
    assert finding.message == (
        "12 of 16 channels (0, 1, 2, 3, 4, 5, 6, 7, ...): all with "
        f"mean {mean:.4g} and std {std:.4g}"
    )
    assert found(alike(0.5), "identical") == []
    assert len(found(alike(0.5), "identical", identical=0.49)) == 1


def test_pairs_are_no_failure_of_symmetry() -> None:
    """As the two halves of rotary embeddings."""
    x = torch.randn(400, 8)
    assert found(torch.cat([x, x], 1), "identical") == []


def test_few_channels_are_alike_by_rights() -> None:
    """A grey photograph has three of them."""
    x = torch.randn(400, 1)
    assert found(x.expand(400, 3), "identical") == []
    assert len(found(x.expand(400, 8), "identical")) == 1
    assert found(torch.randn(400, 1).expand(400, 1), "identical", channels=3) == []


@pytest.mark.parametrize("row", range(4))
def test_one_number_that_differs_tells_neurons_apart(row: int) -> None:
    """Equal means and stds do not do, nor equal extrema."""
    x = torch.randn(400, 1, dtype=torch.float64).repeat(1, 8)
    for channel in range(8):
        apart = 0.01 * (1 + channel)
        if row == 0:
            x[:, channel] += apart  # mean, min and max
        elif row == 1:
            x[3, channel] = x.min() - apart
        elif row == 2:
            x[3, channel] = x.max() + apart
        else:
            x[:, channel] *= 1 + apart
    assert found(x, "identical") == []


def test_silent_channels_are_not_called_identical() -> None:
    x = torch.zeros(400, 16)
    x[:, 8:] = torch.randn(400, 8)
    assert found(x, "identical") == []
    x[:, :8] = 3
    assert found(x, "identical") == []


@pytest.mark.parametrize("value", [0.0, 3.0])
@pytest.mark.parametrize(("still", "told"), [(0, True), (1, True), (5, True), (8, False)])
def test_identical_beside_channels_that_never_vary(value: float, still: int, told: bool) -> None:
    """They are none of those that are alike, and count among the channels of the layer."""
    x = alike(1.0)
    x[:, :still] = value
    findings = found(x, "identical")
    assert [f.channels for f in findings] == ([tuple(range(still, 16))] if told else [])
    x = x[:, torch.randperm(16, generator=torch.Generator().manual_seed(1))]
    vary = (x[0] != x[1]).nonzero().flatten().tolist()
    assert [list(f.channels) for f in found(x, "identical")] == ([vary] if told else [])


def test_the_largest_of_several_groups_is_told() -> None:
    x = torch.randn(400, 3)[:, [0, 1, 1, 0, 1, 2, 1, 0, 1, 1]]
    (finding,) = found(x, "identical")
    assert finding.channels == (1, 2, 4, 6, 8, 9)
    assert finding.evidence["std"] == pytest.approx(float(x[:, 1].std()), rel=1e-3)


def test_a_channel_that_saw_too_little_is_not_called_identical() -> None:
    x = alike(1.0)
    x[150:, 0] = torch.nan
    (finding,) = found(x, "identical")
    assert 0 not in finding.channels


@pytest.mark.parametrize("still", [0, 2, 7])
def test_channels_that_never_vary_have_no_part_in_what_is_usual(still: int) -> None:
    x = spread(8e-5)
    x[:, :still] = 5
    x[:, : still // 2] = 0
    (finding,) = found(x, "collapsed")
    assert finding.evidence["variation"] == pytest.approx(8e-5, rel=1e-3)


def test_weights_that_were_filled() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8))
    nn.init.constant_(model[0].weight, 0.1)
    nn.init.zeros_(model[0].bias)
    with fmstats.track(model) as tracker, torch.no_grad():
        model(torch.randn(500, 8))
    findings = tracker.stats().diagnose(["identical"]).findings
    assert [(f.layer, f.follows) for f in findings] == [("0", None), ("1", "0")]
