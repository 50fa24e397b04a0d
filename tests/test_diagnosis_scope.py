"""What a diagnosis looked at, and what it did not."""

from __future__ import annotations

from diagnosis_profiles import healthy, layer_of, profile_of
from torch import nn

import fmstats
from fmstats.diagnosis.scope import describe_scope
from fmstats.profiles.profile import Profile

MEASURES = ("kurtosis", "histogram")


def test_everything() -> None:
    profile = fmstats.profile(
        nn.Sequential(nn.Linear(4, 4)), healthy(), measure=MEASURES, progress=False
    )
    scope = profile.diagnose().scope
    assert scope.complete
    assert scope.gaps == ()
    assert scope.looked == f"1 layer, {len(profile.diagnose().rules)} rules, 1,000 samples"


def test_each_gap_is_told() -> None:
    rows = [
        {"name": "a", "status": "never fired"},
        {"name": "b", "status": "unseen"},
        {"name": "c", "status": "in part"},
        {"name": "d", "status": "unmasked"},  # it was counted
    ]
    layers = (layer_of(healthy(20)), layer_of(healthy()))
    scope = profile_of(*layers, samples=1000, coverage=rows).diagnose(["dead", "switch"]).scope
    assert not scope.complete
    assert scope.looked == "2 layers, 1 of 2 rules, 1,000 samples"
    assert scope.gaps == (
        "2 layers were not measured, or not in full (a, c)",
        "operations in 1 part of the model could not be seen",
        "1 layer had too little data for 1 rule",
        "switch needs measure='kurtosis'",
    )
    assert profile_of(*layers).diagnose().to_dict()["not_looked_at"] == list(
        profile_of(*layers).diagnose().scope.gaps
    )


def test_a_mask_that_did_not_fit() -> None:
    scope = describe_scope(2, ["dead"], Profile({}, {}).diagnose().measures, [], [], [], ["0"], {})
    assert scope.gaps == ("1 layer was counted without the mask",)


def test_of_nothing() -> None:
    scope = Profile({}, {}).diagnose().scope
    assert scope.looked.startswith("0 layers, ")
    assert scope.looked.endswith("an unknown number of samples")
