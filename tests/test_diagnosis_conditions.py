"""Conditions: their grammar, and three answers."""

from __future__ import annotations

import operator

import pytest
from diagnosis_profiles import healthy, layer_of, profile_of
from hypothesis import given
from hypothesis import strategies as st

from fmstats import FmstatsError, Profile
from fmstats.diagnosis import Condition, Measure, read_conditions
from fmstats.diagnosis.conditions import check_conditions

OPERATORS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("dead>0.05", [("dead", ">", 0.05)]),
        ("dead>5%,nan>0", [("dead", ">", 0.05), ("nan", ">", 0.0)]),
        (" samples < 1e3 ", [("samples", "<", 1000.0)]),
        ("range-e4m3>=.5, errors!=0", [("range-e4m3", ">=", 0.5), ("errors", "!=", 0.0)]),
        ("never-active==0,inf<=-1", [("never-active", "==", 0.0), ("inf", "<=", -1.0)]),
    ],
)
def test_grammar(text: str, conditions: list[tuple[str, str, float]]) -> None:
    assert read_conditions(text) == [Condition(*c) for c in conditions]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "condition '' is not understood: write MEASURE>NUMBER, such as dead>0.05 or nan>0"),
        ("dead", "condition 'dead' is not understood"),
        ("dead>5", r"'dead>5': dead is a share of channels or layers, from 0 to 1; dead>5% is a s"),
        ("never-active >= 101%", r"never-active is a share of channels or layers, from 0 to 1$"),
        ("dead>0.1,", "condition '' is not understood"),
        ("dead>", "condition 'dead>' is not understood"),
        (">3", "condition '>3' is not understood"),
        ("deed>1", "'deed>1': there is no measure 'deed'; closest: dead; choose from nan, inf, er"),
        ("dead=>1", "'dead=>1': there is no '=>'; choose from >= <= == != > <"),
        ("dead=1", "there is no '='; choose from"),
        ("dead>x", "condition 'dead>x': 'x' is not a finite number"),
        ("dead>nan", "'nan' is not a finite number"),
        ("dead>inf", "'inf' is not a finite number"),
        ("nan>5%", "condition 'nan>5%': nan is a count, not a share"),
        ("dead > 0.1 or nan>0", "is not understood|is not a finite number"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(FmstatsError, match=message):
        read_conditions(text)


@given(
    low=st.integers(0, 6),
    span=st.integers(0, 6),
    number=st.integers(-1, 13),
    sign=st.sampled_from(sorted(OPERATORS)),
)
def test_three_answers(low: int, span: int, number: int, sign: str) -> None:
    """The verdict is what comparing every number of the range says, if all agree."""
    measure = Measure(None, low, low + span, "things", "a reason" if span else None)
    # Half numbers as well: a measure may be a share.
    answers = {OPERATORS[sign](low + half / 2, number) for half in range(2 * span + 1)}
    verdict = {(True,): "holds", (False,): "does not hold"}.get(tuple(answers), "not enough data")
    outcome = Condition("nan", sign, number).judge({"nan": measure})
    assert outcome.verdict == verdict
    assert outcome.fails == (verdict != "does not hold")


def test_no_bound() -> None:
    measures = {"nan": Measure(3, 3, None, "NaN elements", "nothing was seen")}
    assert Condition("nan", ">", 2).judge(measures).verdict == "holds"
    assert Condition("nan", ">", 3).judge(measures).verdict == "not enough data"
    assert str(Condition("nan", ">", 3).judge(measures)) == (
        "nan>3  not enough data: 3 to any number, nothing was seen (NaN elements)"
    )


def test_lacking_evidence_widens_a_share() -> None:
    dead, young = healthy(), healthy(20)
    dead[:, 0] = 0
    measures = profile_of(layer_of(dead), layer_of(young)).diagnose().measures
    share = measures["dead"]
    assert (share.value, share.at_least, share.at_most) == (0.25, 0.125, 0.625)
    assert share.reason == "4 of 8 channels have too little data"
    verdicts = {
        text: read_conditions(text)[0].judge(measures).verdict
        for text in ("dead>0.1", "dead>0.5", "dead>0.7")
    }
    assert verdicts == {
        "dead>0.1": "holds",
        "dead>0.5": "not enough data",
        "dead>0.7": "does not hold",
    }


@pytest.mark.parametrize("text", ["nan>0", "errors>0", "findings>0", "samples<1", "dead>0.5"])
def test_an_empty_profile_passes_nothing(text: str) -> None:
    measures = Profile({}, {}).diagnose().measures
    assert read_conditions(text)[0].judge(measures).verdict == "not enough data"


def test_samples() -> None:
    layers = layer_of(healthy())
    measures = profile_of(layers, samples=1000).diagnose().measures
    assert read_conditions("samples<1000")[0].judge(measures).verdict == "does not hold"
    measures = profile_of(layers).diagnose().measures
    assert read_conditions("samples<1000")[0].judge(measures).verdict == "not enough data"


def test_a_rule_that_was_left_out() -> None:
    conditions = read_conditions("sparse>0,nan>0")
    with pytest.raises(FmstatsError, match="'sparse>0' needs the rule 'sparse', which is not amo"):
        check_conditions(conditions, ["dead"])
    measures = profile_of(layer_of(healthy())).diagnose(["dead"]).measures
    with pytest.raises(FmstatsError, match="'sparse>0' needs the rule 'sparse', which was not ap"):
        conditions[0].judge(measures)
    assert conditions[1].judge(measures).verdict == "does not hold"
