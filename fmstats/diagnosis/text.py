"""Format a diagnosis as text: a section for each rule, and each finding once."""

from __future__ import annotations

from collections.abc import Sequence

from fmstats.diagnosis.findings import Finding, NotEnoughData
from fmstats.diagnosis.rules import RULES
from fmstats.diagnosis.sections import Section, group_findings, group_missing_evidence
from fmstats.output.tables import format_plural, make_printable, name_some

# Layers shown of one rule: what is wrong is to fit on a screen.
MOST_SHOWN = {"error": 10, "warning": 6, "info": 3}
_NAMED = 3  # layers named in a line
_REASONS = 4  # shown of why there is no verdict


def format_findings(
    findings: Sequence[Finding],
    lacking: Sequence[NotEnoughData],
    rules: Sequence[str],
    *,
    infos: bool,
) -> str:
    """Format the findings by severity and rule, with advice, and where data was lacking.

    Args:
        findings: of one diagnosis.
        lacking: where its rules could not judge.
        rules: the names of the rules that were applied, in the order of the sections.
        infos: show what is only for information as well, and not only how much there is of it.
    """
    sections = group_findings(findings, rules)
    shown = [section for section in sections if infos or section.severity != "info"]
    blocks = list(map(_format_section, shown))
    blocks += _count_infos(sections[len(shown) :])
    blocks = blocks or ["nothing found"]
    if lacking:
        blocks.append(_format_lacking(lacking))
    return "\n".join(blocks)


def _count_infos(sections: Sequence[Section]) -> list[str]:
    """Say in a line how many findings are not shown; no line where there are none."""
    if not sections:
        return []
    counts = [
        f"{section.rule} in {format_plural(len(section.groups), 'layer')}" for section in sections
    ]
    return [f"info     {', '.join(counts)}: --infos, or describe(infos=True), shows more"]


def _format_section(section: Section) -> str:
    groups = section.groups
    lines = [
        f"{section.severity:<8} {section.rule}, {format_plural(len(groups), 'layer')}",
        f"  do: {RULES[section.rule].advice}",
    ]
    shown = groups[: MOST_SHOWN[section.severity]]
    width = max(len(group.finding.layer) for group in shown)
    for group in shown:
        again = f"; again in {_name(group.repeated_in)}" if group.repeated_in else ""
        again += f"; {group.constants}" if group.constant_in else ""
        line = f"  {group.finding.layer:<{width}}  {group.finding.message}{again}"
        lines.append(make_printable(line))
    if len(groups) > len(shown):
        rest = [group.finding.layer for group in groups[len(shown) :]]
        lines.append(f"  and in {_name(rest)}")
    return "\n".join(lines)


def _format_lacking(rows: Sequence[NotEnoughData]) -> str:
    reasons = group_missing_evidence(rows)
    lines = ["not enough data"]
    for reason in reasons[:_REASONS]:
        without = f"no verdict on {', '.join(reason.rules)}"
        lines.append(f"  {reason.reason}: {_name(reason.layers)}; {without}")
    if len(reasons) > _REASONS:
        rest = {layer for reason in reasons[_REASONS:] for layer in reason.layers}
        lines.append(f"  and {format_plural(len(rest), 'layer')} more")
    return "\n".join(lines)


def _name(layers: Sequence[str]) -> str:
    named = name_some([make_printable(layer) for layer in layers], _NAMED)
    return f"{format_plural(len(layers), 'layer')} ({named})"
