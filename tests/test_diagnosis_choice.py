"""Which rules are applied: formats of 8 bits are asked about, or their layers run in them."""

from __future__ import annotations

import pytest
import torch
from diagnosis_profiles import layer_of, profile_of
from torch import Tensor

from fmstats import FmstatsError, Profile
from fmstats.diagnosis import read_conditions
from fmstats.diagnosis.choice import choose_rules, name_formats
from fmstats.diagnosis.formats import FORMATS
from fmstats.diagnosis.rules import list_rules

SMALL = [form for form in FORMATS if form.scaled]


def apart() -> Tensor:
    """Channels that no format of 8 bits holds with one scale."""
    x = torch.ones(400, 2, dtype=torch.float64)
    x[:, 1] = 2.0**-40
    return x


def found(profile: Profile, *arguments: object, **named: object) -> list[str]:
    return [finding.rule for finding in profile.diagnose(*arguments, **named)]


def test_rules_of_16_bits_are_always_applied() -> None:
    assert "range-float16" in found(profile_of(layer_of(apart() * 1e5)))
    assert [form.name for form in SMALL] == ["e4m3", "e5m2"]


@pytest.mark.parametrize("form", SMALL, ids=lambda form: form.name)
def test_those_of_8_bits_are_asked_for(form: object) -> None:
    profile, rule = profile_of(layer_of(apart())), f"range-{form.name}"
    plain = [name for name in found(profile) if not name.startswith("range-e")]
    assert found(profile) == plain
    for formats in ([form.name], (form.name,), form.name, {form.name}):
        assert found(profile, formats=formats) == [*plain, rule]
    assert found(profile, [rule]) == found(profile, rule) == [rule]
    assert found(profile, ["dead"], formats=[form.name]) == [rule]
    assert profile.diagnose("dead", formats=[form.name]).rules == ("dead", rule)


@pytest.mark.parametrize("form", SMALL, ids=lambda form: form.name)
def test_layers_that_run_in_them_are_judged_unasked(form: object) -> None:
    x = torch.full((400, 2), form.smallest_normal / 4, dtype=torch.float64)
    profile = profile_of(layer_of(x, dtype=form.dtype), layer_of(apart()))
    small = [f for f in profile.diagnose() if f.rule == f"range-{form.name}"]
    assert [(f.layer, f.severity) for f in small] == [("a", "warning")]


def test_no_verdict_is_missing_where_none_was_asked_for() -> None:
    profile = profile_of(layer_of(torch.ones(20, 2)))
    rules = {row.rule for row in profile.diagnose().not_enough_data}
    assert "range-float16" in rules
    assert "range-e4m3" not in rules
    asked = profile.diagnose(formats=["e4m3"]).not_enough_data
    assert {row.rule for row in asked} == {*rules, "range-e4m3"}


def test_formats_of_16_bits_can_be_named_as_well() -> None:
    assert choose_rules(["dead"], ["float16"]).rules == ("dead", "range-float16")
    assert choose_rules(None, ["float16"]).rules == list_rules("output")


def test_mistakes() -> None:
    with pytest.raises(FmstatsError, match=r"no format 'e4m4'; closest: e4m3; choose from float16"):
        profile_of(layer_of(apart())).diagnose(formats=["e4m4"])
    with pytest.raises(FmstatsError, match=r"^there is no rule 'deed'; closest: dead"):
        choose_rules(["deed"], ["e4m3"])


def test_conditions_ask_about_formats() -> None:
    conditions = read_conditions("dead>0,range-e5m2>0,range-float16>0")
    assert name_formats(conditions) == ["float16", "e5m2"]
    assert name_formats([]) == []
