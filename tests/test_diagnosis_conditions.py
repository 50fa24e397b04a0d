"""Conditions: their grammar, and three answers."""

from __future__ import annotations

import math
import operator

import pytest
from diagnosis_profiles import healthy, layer_of, profile_of
from hypothesis import given
from hypothesis import strategies as st

from fmstats import Diagnosis, FmstatsError, Profile
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
        ("dead@ReLU*>10%", [("dead", ">", 0.1, "ReLU*")]),
        ("nan @ layer4.* >= 1", [("nan", ">=", 1.0, "layer4.*")]),
        ("max(dead)@features.*>10%", [("dead", ">", 0.1, "features.*", "max")]),
        ("mean( dead )>1%,skipped>2%", [("dead", ">", 0.01, "*", "mean"), ("skipped", ">", 0.02)]),
    ],
)
def test_grammar(text: str, conditions: list[tuple[str, str, float]]) -> None:
    assert read_conditions(text) == [Condition(*c) for c in conditions]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "condition '' is not understood: write MEASURE>NUMBER or MEASURE@LAYERS>NUMBER, such"),
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
        ("dead@>1%", "'dead@>1%': behind '@' stands a layer, a type or '[*]'"),
        ("samples@ReLU>1", "'samples@ReLU>1': samples is of the run, not of layers"),
        ("max(skipped)>1%", "skipped is of the run, not of layers"),
        ("skipped>2", "skipped is a share of samples that were left out, from 0 to 1; skipped>2%"),
        ("mean(nan)@conv>0", "nan is a count; mean.. is of shares"),
        ("least(dead)>1%", "is not understood"),
        ("max(dead>1%", "is not understood"),
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


def layered() -> Diagnosis:
    """Two ReLUs with a dead channel of four and two, a convolution, and logits of few samples."""
    one, two = healthy().clamp(min=0), healthy().clamp(min=0)
    one[:, 0], two[:, :2] = 0, 0
    two[0, 3] = math.nan
    return profile_of(
        layer_of(one, type="ReLU"),
        layer_of(healthy(), type="Conv2d"),
        layer_of(two, type="ReLU6"),
        layer_of(healthy(20), type="Linear"),
    ).diagnose()


@pytest.mark.parametrize(
    ("text", "verdict", "layer", "at_least"),
    [
        ("dead@ReLU*>30%", "holds", "c", 0.5),  # the worst one
        ("max(dead)@ReLU*>30%", "holds", "c", 0.5),
        ("dead@ReLU*>60%", "does not hold", "c", 0.5),
        ("dead@ReLU>30%", "does not hold", "a", 0.25),  # a type, all of its name
        ("dead@[ab]>20%", "holds", "a", 0.25),  # names of layers
        ("dead@ReLU*<30%", "holds", "a", 0.25),  # the lowest one
        ("mean(dead)@ReLU*>30%", "holds", None, 0.375),
        ("mean(dead)@ReLU*>40%", "does not hold", None, 0.375),
        ("nan@*>0", "holds", "c", 1),
        ("nan@Conv2d>0", "does not hold", "b", 0),
        ("errors@ReLU6>0", "holds", "c", 1),
        ("dead@Linear>10%", "not enough data", None, 0),  # logits do not die
        ("one-sided@Linear>10%", "not enough data", "d", 0),
        ("mean(dead)@*>10%", "holds", None, 3 / 8),  # as `dead`, of the layers it is about
        ("saturated-high@*>10%", "not enough data", None, 0),  # nothing has bounds
        ("dead@GELU>10%", "not enough data", None, 0),
    ],
)
def test_conditions_on_layers(text: str, verdict: str, layer: str | None, at_least: float) -> None:
    found = layered()
    outcome = read_conditions(text)[0].judge(found.measures, found.by_layer)
    assert (outcome.verdict, outcome.layer) == (verdict, layer)
    assert outcome.measure.at_least == at_least


def test_outcomes_name_the_layer_and_what_is_lacking() -> None:
    found = layered()

    def told(text: str) -> str:
        return str(read_conditions(text)[0].judge(found.measures, found.by_layer))

    assert told("dead@ReLU*>30%") == "dead@ReLU*>0.3  holds: c: 0.5 (share of channels)"
    assert told("dead@GELU>1%") == (
        "dead@GELU>0.01  not enough data: 0 to 1, no layer has a name or a type that matches "
        "'GELU'; types are ReLU, Conv2d, ReLU6, Linear (share)"
    )
    assert told("max(nan)@GELU>0") == (
        "max(nan)@GELU>0  not enough data: 0 to any number, no layer has a name or a type that "
        "matches 'GELU'; types are ReLU, Conv2d, ReLU6, Linear (NaN elements)"
    )
    assert "the rule is about none of the layers that match 'Linear'" in told(
        "saturated-low@Linear>0"
    )
