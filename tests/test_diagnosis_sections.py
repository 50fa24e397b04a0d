"""Findings grouped: each first finding once, with the layers that repeat it."""

from __future__ import annotations

import pytest

from fmstats.diagnosis.findings import Finding, NotEnoughData
from fmstats.diagnosis.rules import RULES
from fmstats.diagnosis.sections import (
    MissingEvidence,
    group_findings,
    group_missing_evidence,
)

FAMILY = ("never-active", "constant")  # of one family, whose findings repeat each other


def finding(
    layer: str,
    rule: str,
    *channels: int,
    severity: str = "warning",
    follows: str | None = None,
) -> Finding:
    evidence = {"min": -0.5, "max": 0.25} if rule == "constant" else {}
    return Finding(layer, "ReLU", rule, severity, "", channels, 8, evidence, {}, "", follows)


def told(*findings: Finding, rules: tuple[str, ...] = tuple(RULES)) -> list[tuple[object, ...]]:
    return [
        (section.severity, section.rule, [(g.finding.layer, g.repeated_in) for g in section.groups])
        for section in group_findings(findings, rules)
    ]


def test_gravest_first_then_in_the_order_of_rules() -> None:
    found = (
        *(finding("a", "one-sided", severity="info"), finding("b", "sparse")),
        *(finding("c", "dead"), finding("d", "sparse", severity="error"), finding("e", "sparse")),
    )
    assert told(*found) == [
        ("error", "sparse", [("d", [])]),
        ("warning", "dead", [("c", [])]),
        ("warning", "sparse", [("b", []), ("e", [])]),
        ("info", "one-sided", [("a", [])]),
    ]
    assert told(*found, rules=("sparse", "dead"))[1][1] == "sparse"
    assert told() == []


def test_a_layer_that_repeats_is_named_once_and_under_what_it_repeats() -> None:
    assert RULES[FAMILY[0]].family == RULES[FAMILY[1]].family
    found = (
        *(finding("a", FAMILY[0], 1, 2), finding("a", "one-sided", 1)),
        *(finding("b", FAMILY[0], 1, follows="a"), finding("b", FAMILY[1], 2, follows="a")),
        *(finding("c", FAMILY[0], 2, follows="a"), finding("d", "one-sided", 1, follows="a")),
    )
    assert told(*found) == [
        ("warning", "never-active", [("a", ["b", "c"])]),
        ("warning", "one-sided", [("a", ["d"])]),
    ]


def test_of_two_findings_of_a_layer_each_has_the_layers_that_show_its_channels() -> None:
    found = (
        *(finding("a", FAMILY[0], 1), finding("a", FAMILY[1], 2)),
        *(finding("b", FAMILY[0], 1, follows="a"), finding("c", FAMILY[0], 1, 2, follows="a")),
    )
    assert told(*found) == [
        ("warning", "never-active", [("a", ["b", "c"])]),
        ("warning", "constant", [("a", ["c"])]),
    ]


@pytest.mark.parametrize(("rule", "again"), [("non-finite", ["b"]), ("never-active", [])])
def test_what_is_not_finite_spreads_to_other_channels(rule: str, again: list[str]) -> None:
    assert told(finding("a", rule, 1), finding("b", rule, 3, follows="a")) == [
        ("warning", rule, [("a", again)])
    ]


def test_a_whole_layer_is_repeated_by_whole_layers() -> None:
    found = finding("a", "sparse"), finding("b", "sparse", follows="a")
    assert told(*found) == [("warning", "sparse", [("a", ["b"])])]


def test_missing_evidence_by_reason() -> None:
    rows = [
        *(NotEnoughData("a", "dead", 2, "few"), NotEnoughData("a", "sparse", None, "few")),
        *(NotEnoughData("b", "dead", 1, "none"), NotEnoughData("c", "dead", 1, "few")),
    ]
    assert group_missing_evidence(rows) == [
        MissingEvidence("few", ["a", "c"], ["dead", "sparse"]),
        MissingEvidence("none", ["b"], ["dead"]),
    ]
    assert group_missing_evidence([]) == []


def test_channels_that_turn_constant_are_told_with_their_values() -> None:
    """Not as "again 0": what prunes them has to keep the value."""
    found = (
        *(finding("a", "never-active", 1, 2), finding("b", "never-active", 1, 2, follows="a")),
        *(finding("c", "constant", 1, follows="a"), finding("d", "constant", 5, follows="a")),
    )
    (section,) = group_findings(found, tuple(RULES))
    (group,) = section.groups
    assert group.repeated_in == ["b"]
    assert group.constant_in == [("c", -0.5, 0.25)]
    assert group.constants == "constant, but not 0, in 1 layer after it (c: -0.5 to 0.25)"


def test_the_largest_share_comes_first_but_for_what_spreads() -> None:
    some = finding("a", "dead", 1), finding("b", "dead", 1, 2, 3), finding("c", "dead", 4)
    assert told(*some) == [("warning", "dead", [("b", []), ("a", []), ("c", [])])]
    bad = finding("a", "non-finite", 1), finding("b", "non-finite", 1, 2, 3)
    assert told(*bad) == [("warning", "non-finite", [("a", []), ("b", [])])]
