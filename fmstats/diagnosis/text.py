"""A diagnosis as people read it: rule by rule, each story once, the long tail counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fmstats.diagnosis.rules import RULES, SEVERITIES
from fmstats.tables import make_printable

if TYPE_CHECKING:
    from fmstats.diagnosis.result import Diagnosis, Finding, NotEnoughData

# Layers shown of one rule: what is only for information must not bury what is wrong.
MOST_SHOWN = {"error": 20, "warning": 20, "info": 3}
_NAMED = 3  # layers named in a line
_REASONS = 4  # shown of why there is no verdict


def format_diagnosis(diagnosis: Diagnosis) -> str:
    """The findings by severity and rule, what to do, and where there was not enough data."""
    if not diagnosis.layers:
        return "no layer was measured: nothing can be said"
    blocks = list(_format_findings(diagnosis)) or ["nothing found"]
    if diagnosis.not_enough_data:
        blocks.append(_format_lacking(diagnosis.not_enough_data))
    return "\n".join(blocks)


def _format_findings(diagnosis: Diagnosis) -> Iterator[str]:
    repeats: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in diagnosis.findings:
        if finding.follows is None:
            groups[finding.severity, finding.rule].append(finding)
        else:
            repeats[finding.follows, _story(finding)].append(finding)
    for severity in SEVERITIES:
        for rule in diagnosis.rules:
            if (severity, rule) in groups:
                rows = [
                    (finding, _repeating(finding, repeats[finding.layer, _story(finding)]))
                    for finding in groups[severity, rule]
                ]
                yield _format_rule(severity, rule, rows)


def _story(finding: Finding) -> str:
    return RULES[finding.rule].family or finding.rule


def _repeating(finding: Finding, followers: Sequence[Finding]) -> list[str]:
    """The layers after a finding's that show the same, in the order of execution."""
    mine = set(finding.channels)
    # Non-finite numbers spread to other channels, all else stays in its own.
    spreads = finding.rule == "non-finite" or not mine
    layers = [f.layer for f in followers if spreads or mine & set(f.channels)]
    return list(dict.fromkeys(layers))


def _format_rule(severity: str, rule: str, rows: Sequence[tuple[Finding, list[str]]]) -> str:
    lines = [
        f"{severity:<8} {rule}, {_number(len(rows), 'layer')}",
        f"  do: {RULES[rule].advice}",
    ]
    shown = rows[: MOST_SHOWN[severity]]
    width = max(len(finding.layer) for finding, _ in shown)
    for finding, layers in shown:
        again = f"; again in {_name(layers)}" if layers else ""
        line = f"  {finding.layer:<{width}}  {finding.message}{again}"
        lines.append(make_printable(line))
    if len(rows) > len(shown):
        lines.append(f"  and in {_name([f.layer for f, _ in rows[len(shown) :]])}")
    return "\n".join(lines)


def _format_lacking(rows: Sequence[NotEnoughData]) -> str:
    groups: dict[str, list[NotEnoughData]] = defaultdict(list)
    for row in rows:
        groups[row.reason].append(row)
    lines = ["not enough data"]
    for reason, of_reason in list(groups.items())[:_REASONS]:
        layers = list(dict.fromkeys(row.layer for row in of_reason))
        rules = list(dict.fromkeys(row.rule for row in of_reason))
        lines.append(f"  {reason}: {_name(layers)}; no verdict on {', '.join(rules)}")
    if len(groups) > _REASONS:
        rest = {row.layer for of_reason in list(groups.values())[_REASONS:] for row in of_reason}
        lines.append(f"  and {_number(len(rest), 'layer')} more")
    return "\n".join(lines)


def _name(layers: Sequence[str]) -> str:
    named = ", ".join(map(make_printable, layers[:_NAMED]))
    named += ", ..." if len(layers) > _NAMED else ""
    return f"{_number(len(layers), 'layer')} ({named})"


def _number(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
