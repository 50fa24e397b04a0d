"""Findings put together for readers: each story once, rule by rule, gravest first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmstats.diagnosis.rules import RULES, SEVERITIES

if TYPE_CHECKING:
    from fmstats.diagnosis.result import Diagnosis, Finding, NotEnoughData


@dataclass(frozen=True)
class Story:
    """A finding that repeats no other.

    Attributes:
        again: the layers after its own that show the same, in the order of execution.
    """

    finding: Finding
    again: list[str]


@dataclass(frozen=True)
class Chapter:
    """The stories of one rule and one severity, in the order of execution; never empty."""

    severity: str
    rule: str
    stories: list[Story]


@dataclass(frozen=True)
class Lack:
    """One reason why there is no verdict, the layers that it holds for, the rules that it stops."""

    reason: str
    layers: list[str]
    rules: list[str]


def tell_stories(diagnosis: Diagnosis) -> list[Chapter]:
    """The findings by severity, gravest first, and by rule."""
    repeats: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in diagnosis.findings:
        if finding.follows is None:
            groups[finding.severity, finding.rule].append(finding)
        else:
            repeats[finding.follows, _subject(finding)].append(finding)
    return [
        Chapter(
            severity,
            rule,
            [
                Story(finding, _repeating(finding, repeats[finding.layer, _subject(finding)]))
                for finding in groups[severity, rule]
            ],
        )
        for severity in SEVERITIES
        for rule in diagnosis.rules
        if (severity, rule) in groups
    ]


def gather_lacks(rows: Sequence[NotEnoughData]) -> list[Lack]:
    """What could not be judged, reason by reason."""
    groups: dict[str, list[NotEnoughData]] = defaultdict(list)
    for row in rows:
        groups[row.reason].append(row)
    return [
        Lack(
            reason,
            list(dict.fromkeys(row.layer for row in group)),
            list(dict.fromkeys(row.rule for row in group)),
        )
        for reason, group in groups.items()
    ]


def _subject(finding: Finding) -> str:
    return RULES[finding.rule].family or finding.rule


def _repeating(finding: Finding, followers: Sequence[Finding]) -> list[str]:
    mine = set(finding.channels)
    # Non-finite numbers spread to other channels, all else stays in its own.
    spreads = finding.rule == "non-finite" or not mine
    layers = [f.layer for f in followers if spreads or mine & set(f.channels)]
    return list(dict.fromkeys(layers))
