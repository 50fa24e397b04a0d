"""Group findings for readers: a section for each rule, a group for each first finding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from fmstats.diagnosis.findings import Finding, NotEnoughData
from fmstats.diagnosis.rules import RULES, SEVERITIES


@dataclass(frozen=True)
class FindingGroup:
    """Holds a first finding, and the later layers that repeat it.

    Attributes:
        finding: the first of its kind.
        repeated_in: the layers after its own that show the same, in the order of execution.
    """

    finding: Finding
    repeated_in: list[str]


@dataclass(frozen=True)
class Section:
    """Holds the groups of one rule and severity in the order of execution; it is never empty."""

    severity: str
    rule: str
    groups: list[FindingGroup]


@dataclass(frozen=True)
class MissingEvidence:
    """Holds one reason for missing verdicts, with the layers and rules it concerns."""

    reason: str
    layers: list[str]
    rules: list[str]


def group_findings(findings: Sequence[Finding], rules: Sequence[str]) -> list[Section]:
    """Group findings by severity, gravest first, and by rule.

    Args:
        findings: of one diagnosis.
        rules: the names of the rules that were applied, in the order of the sections.
    """
    repeats: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.follows is None:
            groups[finding.severity, finding.rule].append(finding)
        else:
            repeats[finding.follows, _subject(finding)].append(finding)

    def group(finding: Finding) -> FindingGroup:
        repeats_of = repeats[finding.layer, _subject(finding)]
        return FindingGroup(finding, _repeating(finding, repeats_of))

    return [
        Section(
            severity,
            rule,
            [group(finding) for finding in groups[severity, rule]],
        )
        for severity in SEVERITIES
        for rule in rules
        if (severity, rule) in groups
    ]


def group_missing_evidence(rows: Sequence[NotEnoughData]) -> list[MissingEvidence]:
    """Group what could not be judged by its reason."""
    groups: dict[str, list[NotEnoughData]] = defaultdict(list)
    for row in rows:
        groups[row.reason].append(row)
    return [
        MissingEvidence(
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
