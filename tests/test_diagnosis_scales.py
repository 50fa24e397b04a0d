"""Layers that saw too little have no part in what is compared along depth."""

from __future__ import annotations

import pytest
from diagnosis_profiles import healthy, layer_of, profile_of, scaled, unseen

RULES = ["exploding", "vanishing"]


@pytest.mark.parametrize("rms", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("place", [1, 3, 5])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_layer_that_saw_too_little_changes_no_verdict(
    rms: float, place: int, size: float
) -> None:
    layers = [scaled(rms) for _ in range(6)]
    assert profile_of(*layers).diagnose(RULES).findings == []
    for little in (layer_of(healthy(9) * size, "Linear"), unseen(4, "Linear")):
        diagnosis = profile_of(*layers[:place], little, *layers[place:]).diagnose(RULES)
        assert diagnosis.findings == []
        assert {row.layer for row in diagnosis.not_enough_data} == {chr(97 + place)}


@pytest.mark.parametrize("factor", [1e4, 1e-4])
def test_a_jump_is_told_of_the_layer_after_one_that_saw_too_little(factor: float) -> None:
    rule = "exploding" if factor > 1 else "vanishing"
    layers = [scaled(1.0)] * 4 + [layer_of(healthy(9), "Linear")] + [scaled(factor)] * 2
    (first, *_) = profile_of(*layers).diagnose([rule]).findings
    assert first.layer == "f"


def test_a_normalisation_is_told_beside_1() -> None:
    (finding,) = profile_of(*[scaled(400.0, "BatchNorm2d")] * 5).diagnose(["exploding"]).findings
    assert finding.message.startswith("rms 400, where a normalisation gives about 1")
    shown = {name: finding.evidence[name] for name in ("rms", "rms_before", "rms_shown")}
    assert shown == pytest.approx({"rms": 400, "rms_before": 1, "rms_shown": 400})
