"""Group findings for readers: a section for each rule, a group for each first finding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from fmstats.diagnosis.findings import Finding, NotEnoughData
from fmstats.diagnosis.rule import SEVERITIES
from fmstats.diagnosis.rules import RULES
from fmstats.output.tables import format_plural, name_some

_NAMED = 3  # layers named in a line


@dataclass(frozen=True)
class FindingGroup:
    """Holds a first finding, and the later layers that repeat it.

    Attributes:
        finding: the first of its kind.
        repeated_in: the layers after its own that show the same, in the order of execution.
        constant_in: the layers after its own in which channels that are 0 have turned into another
            constant, as the bias of a norm makes them, with the least and the largest one.
    """

    finding: Finding
    repeated_in: list[str]
    constant_in: list[tuple[str, float, float]] = field(default_factory=list)

    @property
    def constants(self) -> str:
        """Return in which layers channels that are 0 turn into another constant, and into which."""
        named = [
            f"{layer}: {least:.4g}" + (f" to {most:.4g}" if most != least else "")
            for layer, least, most in self.constant_in
        ]
        count = format_plural(len(named), "layer")
        return f"constant, but not 0, in {count} after it ({name_some(named, _NAMED)})"


@dataclass(frozen=True)
class Section:
    """Holds the groups of one rule and severity; it is never empty.

    Those with the largest share of their layer's channels come first, then in the order of
    execution. Non-finite numbers spread with it, so their groups keep that order.
    """

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
        same = [other for other in repeats_of if not _turned_constant(finding, other)]
        turned = [other for other in repeats_of if _turned_constant(finding, other)]
        return FindingGroup(
            finding,
            _repeating(finding, same),
            [
                (other.layer, *_range_of(other))
                for other in turned
                if set(other.channels) & set(finding.channels)
            ],
        )

    return [
        Section(
            severity,
            rule,
            [group(finding) for finding in _rank(groups[severity, rule])],
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


def _rank(findings: Sequence[Finding]) -> list[Finding]:
    if findings[0].rule == "non-finite":
        return list(findings)
    return sorted(findings, key=lambda finding: -len(finding.channels) / max(finding.width, 1))


def _turned_constant(first: Finding, later: Finding) -> bool:
    return later.rule == "constant" and first.rule != "constant"


def _range_of(finding: Finding) -> tuple[float, float]:
    least, most = finding.evidence["min"], finding.evidence["max"]
    assert isinstance(least, float)
    assert isinstance(most, float)
    return least, most


def _subject(finding: Finding) -> str:
    return RULES[finding.rule].family or finding.rule


def _repeating(finding: Finding, followers: Sequence[Finding]) -> list[str]:
    mine = set(finding.channels)
    # Non-finite numbers spread to other channels, all else stays in its own.
    spreads = finding.rule == "non-finite" or not mine
    layers = [f.layer for f in followers if spreads or mine & set(f.channels)]
    return list(dict.fromkeys(layers))
