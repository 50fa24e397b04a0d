"""A trained network on real photographs: findings that are true, and few lines to read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import fmstats
from fmstats import ChannelStats, Profile
from fmstats.demo import mobilenet, photographs
from fmstats.demo.packages import PILLOW, SCIKIT_IMAGE, SCIKIT_LEARN, WEIGHTS, find_folder

NEEDED = (WEIGHTS, PILLOW, SCIKIT_IMAGE, SCIKIT_LEARN)
MISSING = [package.distribution for package in NEEDED if find_folder(package) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


@pytest.fixture(scope="module")
def profile() -> Profile:
    model, paths = mobilenet.load_pretrained(), photographs.find_photographs()
    with fmstats.track(model) as tracker, torch.inference_mode():
        for batch in photographs.iterate_batches(paths, crops=0, batch_size=6):
            model(batch)
    return tracker.stats()


def test_nothing_is_broken(profile: Profile) -> None:
    diagnosis = profile.diagnose()
    rules = {finding.rule for finding in diagnosis}
    assert "never-active" in rules
    assert not rules & {"non-finite", "exploding", "vanishing", "sparse", "saturated-high"}
    assert diagnosis.measures["errors"].at_most == 0
    assert diagnosis.measures["never-active"].value < 0.01


HOLDS: dict[str, Callable[[ChannelStats], np.ndarray]] = {
    "never-active": lambda stats: stats.zeros == stats.count,
    "dead": lambda stats: stats.zeros > 0.99 * stats.count,
    "constant": lambda stats: (stats.max == stats.min) & (stats.abs_max > 0),
}


@pytest.mark.parametrize("rule", HOLDS)
def test_a_channel_is_found_where_its_counts_say_so(profile: Profile, rule: str) -> None:
    found = {f.layer: list(f.channels) for f in profile.diagnose([rule])}
    held = {layer: np.flatnonzero(HOLDS[rule](profile[layer])).tolist() for layer in profile}
    assert found == {layer: channels for layer, channels in held.items() if channels}
    assert found


def test_a_silent_channel_is_one_group(profile: Profile) -> None:
    """ReLU6, depthwise convolution, batch norm, ReLU6: the channel is silent in all four."""
    findings = profile.diagnose(["never-active", "constant"]).findings
    follows = {f.layer: f.follows for f in findings if f.layer.startswith("features.9.conv")}
    first = "features.9.conv.0.2"
    assert follows == {
        first: None,
        "features.9.conv.1.0": first,
        "features.9.conv.1.1": first,
        "features.9.conv.1.2": first,
    }


def test_what_is_printed_fits_a_screen(profile: Profile) -> None:
    assert len(str(profile.diagnose()).splitlines()) <= 50


def test_one_crop_is_not_enough_data(profile: Profile) -> None:
    one = Profile(profile.info, {"samples": 1})
    diagnosis = one.diagnose(["never-active", "dead", "constant"])
    assert diagnosis.findings == []
    assert len(diagnosis.not_enough_data) == 3 * len(profile)
