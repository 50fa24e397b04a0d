"""Outlier channels, in robust units and as a factor."""

from __future__ import annotations

import math

import pytest
import torch
from diagnosis_profiles import healthy, layer_of, profile_of
from torch import Tensor

from fmstats.diagnosis import Diagnosis


def diagnosis_of(x: Tensor, **thresholds: float) -> Diagnosis:
    return profile_of(layer_of(x, "Linear")).diagnose(["outlier"], thresholds)


def alike(channels: int = 16) -> Tensor:
    """Every channel with an rms of exactly 1."""
    x = torch.ones(400, channels, dtype=torch.float64)
    x[::2] *= -1
    return x


def test_loud_and_quiet_channels() -> None:
    x = alike()
    x[:, 3] *= 11
    x[:, 5] /= 20
    (finding,) = diagnosis_of(x)
    assert (finding.severity, finding.channels) == ("info", (3, 5))
    assert finding.message == (
        "2 of 16 channels (3, 5): 1 with an rms up to 11, 1 with an rms down to 0.05 times the "
        "layer's median"
    )
    ratios = finding.evidence["largest_ratio"], finding.evidence["smallest_ratio"]
    assert ratios == pytest.approx((11, 0.05))
    assert diagnosis_of(x, **{"outlier-ratio": 30}).findings == []


@pytest.mark.parametrize("unit", [0.5, 4.0])
def test_ratios_are_to_the_median(unit: float) -> None:
    x = alike(9) * unit
    x[:, 3] *= 10
    assert diagnosis_of(x).findings == []  # more than ten times the median is meant
    x[:, 3] *= 2
    (finding,) = diagnosis_of(x)
    assert finding.message.endswith("1 with an rms up to 20 times the layer's median")
    assert finding.evidence["median_rms"] == pytest.approx(unit)
    x[:, 3] /= 400
    (finding,) = diagnosis_of(x)
    assert finding.message.endswith("(3): 1 with an rms down to 0.05 times the layer's median")


def test_a_channel_that_saw_too_little_is_not_told() -> None:
    x = alike(17)
    x[:, 2], x[:, 4] = x[:, 2] * 50, x[:, 4] * 50
    x[200:, 4] = math.nan
    diagnosis = diagnosis_of(x)
    assert [finding.channels for finding in diagnosis] == [(2,)]
    (lacking,) = diagnosis.not_enough_data
    assert (lacking.channels, lacking.reason) == (1, "200 finite elements seen, 300 needed")


def test_a_factor_alone_is_not_enough() -> None:
    """Where channels differ by as much anyway, one of 11 times the median is no outlier."""
    x = alike(17) * torch.logspace(-1, 1, 17, dtype=torch.float64)
    x[:, 16] *= 1.2
    assert diagnosis_of(x).findings == []
    (finding,) = diagnosis_of(x, outlier=1)
    assert finding.channels == (16,)


def test_silent_channels_take_no_part() -> None:
    x = alike()
    x[:, :7] = 0
    x[:, 9] = 0.01
    (finding,) = diagnosis_of(x)
    assert finding.channels == (9,)
    assert finding.evidence["median_rms"] == 1


def test_few_channels_have_no_median() -> None:
    x = alike(7)
    x[:, 0] *= 1000
    diagnosis = diagnosis_of(x)
    assert (diagnosis.findings, diagnosis.not_enough_data) == ([], [])
    (finding,) = diagnosis_of(torch.cat([x, alike(1)], 1))
    assert finding.channels == (0,)  # eight have one
    x = alike(12)
    x[:, :5] = 0
    for few in (x, x * torch.logspace(0, 9, 12)):
        diagnosis = diagnosis_of(few)
        assert diagnosis.findings == []
        (lacking,) = diagnosis.not_enough_data
        assert lacking.reason == "7 channels with a scale seen, 8 needed"
    x[:, 4] = 1000
    (finding,) = diagnosis_of(x)
    assert finding.channels == (4,)
    x[200:, 5] = math.nan  # what this one lacks is told
    assert diagnosis_of(x).findings == []
    (lacking,) = diagnosis_of(x).not_enough_data
    assert lacking.reason == "200 finite elements seen, 300 needed"


def test_healthy() -> None:
    assert diagnosis_of(healthy(1000, 64)).findings == []
