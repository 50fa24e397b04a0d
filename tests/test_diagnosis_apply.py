"""`diagnose`: choosing rules and thresholds, evidence, repeats, and merging."""

from __future__ import annotations

import json
import math

import pytest
import torch
from diagnosis_profiles import healthy, layer_of, profile_of, scaled, unseen
from hypothesis import given
from hypothesis import strategies as st

import fmstats
from fmstats import FmstatsError, LayerProfile, Profile, diagnosis
from fmstats.diagnosis import RULE_THRESHOLDS, RULES, SEVERITIES
from fmstats.diagnosis.observed import observe
from fmstats.statistic.measures import Measures

SHARES = ["dead", "never-active", "constant", "sparse"]
EVERYTHING = Measures.of(("kurtosis", "histogram"))
SATURATED = ["saturated-low", "saturated-high", "saturated-both"]


def silent(*channels: int, n: int = 1000, width: int = 4, value: float = 0.0) -> LayerProfile:
    x = healthy(n, width)
    x[:, list(channels)] = value
    return layer_of(x)


def test_the_registry_is_whole() -> None:
    used = {name for rule in RULES.values() for name in rule.thresholds}
    assert used == set(RULE_THRESHOLDS)
    for rule in RULES.values():
        assert set(rule.severities) <= set(SEVERITIES)
        assert rule.unit in ("channels", "layers")
        assert set(rule.yields_to) <= set(RULES)
        told = {name for name in rule.thresholds if f"`{name}`" in rule.condition}
        elsewhere = {"elements", "samples"}  # which every rule of activations asks for
        if "as exploding" in rule.condition:
            elsewhere |= set(RULES["exploding"].thresholds)
        assert told | elsewhere >= set(rule.thresholds)


def test_nothing_found() -> None:
    for profile in (profile_of(scaled(1.0)), profile_of(layer_of(healthy(), "Linear"))):
        diagnosis = profile.diagnose()
        assert (diagnosis.findings, bool(diagnosis), len(diagnosis)) == ([], False, 0)
        assert diagnosis.not_enough_data == []
    assert str(profile_of(scaled(1.0)).diagnose()) == "nothing found"


def test_the_function_is_public() -> None:
    profile = profile_of(silent(1))
    assert list(fmstats.diagnose(profile, ["dead"])) == profile.diagnose(["dead"]).findings


def test_the_old_name_of_the_thresholds() -> None:
    with pytest.warns(DeprecationWarning, match=r"THRESHOLDS is .*called RULE_THRESHOLDS$"):
        assert diagnosis.THRESHOLDS is RULE_THRESHOLDS
    with pytest.raises(AttributeError, match=r"^module 'fmstats\.diagnosis' has no attribute 'No'"):
        diagnosis.No  # noqa: B018


@pytest.mark.parametrize(
    ("rules", "thresholds", "message"),
    [
        (["deed"], None, "there is no rule 'deed'; closest: dead; choose from non-finite, never-"),
        ("quiet", None, "there is no rule 'quiet'; choose from non-finite"),
        ([], None, "rules=\\[\\]: choose from non-finite"),
        (None, {"deed": 1}, "there is no threshold 'deed'; closest: dead; choose from elements, s"),
        (None, {"dead": 1.5}, "threshold dead=1.5: give a finite number, at least 0, at most 1"),
        (None, {"dead": math.nan}, "threshold dead=nan: give a finite number"),
        (None, {"samples": 0}, "threshold samples=0: give a finite number, at least 1$"),
        (None, {"samples": math.inf}, "threshold samples=inf: give a finite number, at least 1$"),
        (None, {"dead": "0.9"}, "threshold dead='0.9': give a finite number"),
        (None, {"dead": True}, "threshold dead=True"),
        (None, 0.9, "thresholds=0.9: give a mapping"),
    ],
)
def test_mistakes(rules: object, thresholds: object, message: str) -> None:
    with pytest.raises(FmstatsError, match=message):
        profile_of(silent(1)).diagnose(rules, thresholds)  # type: ignore[arg-type]


def test_one_rule_by_its_name() -> None:
    diagnosis = profile_of(silent(1)).diagnose("dead")
    assert diagnosis.rules == ("dead",)
    assert [f.rule for f in diagnosis] == ["dead"]


def test_gravest_first_then_in_the_order_of_execution() -> None:
    bad = healthy()
    bad[0, 0] = math.nan
    diagnosis = profile_of(silent(0), silent(1, 2), layer_of(bad)).diagnose(
        ["never-active", "non-finite"]
    )
    assert [(f.layer, f.severity) for f in diagnosis] == [
        ("c", "error"),
        ("a", "warning"),
        ("b", "warning"),
    ]
    assert str(diagnosis.findings[1]).startswith("warning  a  never-active: 1 of 4 channels (0): ")


# --- evidence


@pytest.mark.parametrize("rule", [r for r in RULES if "elements" in RULES[r].thresholds])
def test_too_little_is_not_fine(rule: str) -> None:
    """No rule that extrapolates says yes or no to 299 elements, or to 9 samples."""
    for x, reason in (
        (torch.zeros(299, 8), "299 finite elements seen, 300 needed"),
        (torch.zeros(9, 8, 100), "9 samples seen, 10 needed"),
    ):
        # Of one channel where the rule judges whole layers, which have that many elements more.
        x = x[:, :1] if RULES[rule].unit == "layers" else x
        bounds = (0.0, 1.0) if rule == "switch" else (-0.99, 0.0)
        profile = profile_of(*[layer_of(x, "Tanh", *bounds, measures=EVERYTHING)] * 4)
        diagnosis = profile.diagnose([rule])
        assert diagnosis.findings == []
        assert {row.reason for row in diagnosis.not_enough_data} == {reason}
        assert [row.layer for row in diagnosis.not_enough_data] == ["a", "b", "c", "d"]
        lower = {"elements": 1, "samples": 1}
        left = {row.reason for row in profile.diagnose([rule], lower).not_enough_data}
        # Zeros have no scale to compare channels by.
        no_scale = {f"0 channels with a scale seen, {RULE_THRESHOLDS['channels'].default:g} needed"}
        assert left == (no_scale if rule == "outlier" else set())


def test_a_layer_that_saw_nothing() -> None:
    diagnosis = profile_of(unseen()).diagnose()
    assert diagnosis.findings == []
    assert {row.reason for row in diagnosis.not_enough_data} == {"nothing was seen"}
    assert "non-finite" in {row.rule for row in diagnosis.not_enough_data}
    assert diagnosis.measures["nan"].at_most is None


def test_channels_without_evidence_are_counted() -> None:
    x = healthy()
    x[:800, :3] = math.nan
    (row,) = profile_of(layer_of(x)).diagnose(["dead"]).not_enough_data
    assert (row.channels, row.reason) == (3, "200 finite elements seen, 300 needed")
    assert str(row) == "a  dead: not enough data, 200 finite elements seen, 300 needed"


def test_an_empty_profile() -> None:
    diagnosis = Profile({}, {}).diagnose()
    assert (diagnosis.findings, diagnosis.not_enough_data) == ([], [])
    assert str(diagnosis) == "no layer was measured: nothing can be said"


@pytest.mark.parametrize(
    ("shape", "samples"), [((12, 4), 12), ((12, 4, 7), 12), ((12, 4, 5, 6), 12)]
)
def test_samples_are_estimated_from_shapes(shape: tuple[int, ...], samples: int) -> None:
    profile = profile_of(layer_of(torch.zeros(shape)))
    assert observe(profile)[0].samples == samples
    assert observe(profile | profile)[0].samples == 2 * samples
    assert observe(Profile(profile.info, {"samples": 3}))[0].samples == 3


def test_samples_of_a_real_run() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 2)
    )
    with fmstats.track(model) as tracker, torch.no_grad():
        for batch in (8, 8, 3):  # the last batch is smaller
            model(torch.randn(batch, 3, 8, 8))
    assert [layer.samples for layer in observe(tracker.stats())] == [19, 19, 19]


# --- repeats


def test_a_story_is_told_once() -> None:
    layers = [silent(1, 2), silent(1, 2), silent(1, 2, value=0.5), silent(2), silent(3)]
    diagnosis = profile_of(*layers).diagnose(SHARES)
    assert [(f.layer, f.rule, f.follows) for f in diagnosis] == [
        ("a", "never-active", None),
        ("b", "never-active", "a"),
        ("c", "constant", "a"),
        ("d", "never-active", "a"),
        ("e", "never-active", None),
    ]
    assert diagnosis.measures["warnings"].value == 2


def test_what_is_no_repeat() -> None:
    more = profile_of(silent(1), silent(1, 2)).diagnose(SHARES)
    assert [f.follows for f in more] == [None, None]
    apart = profile_of(silent(1), layer_of(healthy()), silent(1)).diagnose(SHARES)
    assert [f.follows for f in apart] == [None, None]
    other_width = profile_of(silent(1), silent(1, width=5)).diagnose(SHARES)
    assert [f.follows for f in other_width] == [None, None]


def test_a_finding_of_another_severity_is_no_repeat() -> None:
    """A layer that is sparse after one of zeros starts a finding group of its own."""
    x = healthy(2000, 4)
    for channel in range(4):
        x[40 + channel :, channel] = 0
    layers = [layer_of(torch.zeros(2000, 4)), layer_of(torch.zeros(2000, 4)), layer_of(x)]
    found = profile_of(*layers).diagnose(["sparse"])
    assert [(f.layer, f.severity, f.follows) for f in found] == [
        ("a", "error", None),
        ("b", "error", "a"),
        ("c", "warning", None),
    ]


# --- merging


@given(
    seed=st.integers(0, 2**16),
    share=st.sampled_from([0.2, 0.45, 0.55, 0.94, 0.96, 0.985, 0.995, 1.0]),
    value=st.sampled_from([0.0, 2.0]),
)
def test_verdicts_that_are_shares_do_not_change_by_merging(
    seed: int, share: float, value: float
) -> None:
    torch.manual_seed(seed)
    x = torch.rand(400, 6) * 2
    x[torch.rand(400, 6) < share] = value
    x[:, 0] = value
    profile = profile_of(layer_of(x, "Hardtanh", 0.0, 2.0))
    once = profile.diagnose([*SHARES, *SATURATED])
    twice = (profile | profile).diagnose([*SHARES, *SATURATED])
    assert [(f.rule, f.channels, f.severity) for f in once] == [
        (f.rule, f.channels, f.severity) for f in twice
    ]
    for rule in (*SHARES, *SATURATED):
        assert once.measures[rule] == twice.measures[rule]


def test_merging_makes_evidence() -> None:
    x = torch.zeros(200, 2)
    half = profile_of(layer_of(x))
    assert len(half.diagnose(["dead"]).not_enough_data) == 1
    assert len((half | half).diagnose(["dead"]).findings) == 1


def test_to_dict_is_plain_json() -> None:
    bad = healthy()
    bad[0, 0], bad[1, 1] = math.nan, math.inf
    profile = profile_of(silent(0), layer_of(bad), layer_of(healthy(5)), unseen())
    content = profile.diagnose().to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["schema"] == 1
    assert set(content) == {
        *("schema", "layers", "rules", "thresholds", "measures", "findings", "not_enough_data"),
        *("unseen", "unmasked", "unmeasured", "looked_at", "not_looked_at"),
    }
    assert set(content["findings"][0]) == {
        *("layer", "type", "rule", "severity", "message", "channels", "width", "evidence"),
        *("thresholds", "advice", "follows"),
    }
    assert set(content["measures"]["nan"]) == {"value", "at_least", "at_most", "unit", "reason"}
    assert set(content["not_enough_data"][0]) == {"layer", "rule", "channels", "reason"}


def test_what_is_no_profile_is_refused() -> None:
    with pytest.raises(FmstatsError, match=r"^diagnose\(\) takes a Profile, got dict$"):
        fmstats.diagnose({})
