"""Outlier channels, in robust units and as a factor."""

from __future__ import annotations

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
    assert diagnosis_of(x, **{"outlier-ratio": 30}).findings == []


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
    x = alike(12)
    x[:, :5] = 0
    (lacking,) = diagnosis_of(x).not_enough_data
    assert lacking.reason == "7 channels with a scale seen, 8 needed"


def test_healthy() -> None:
    assert diagnosis_of(healthy(1000, 64)).findings == []
