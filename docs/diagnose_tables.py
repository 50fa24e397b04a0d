"""Make the tables of docs/diagnose.md from the registry: `python docs/diagnose_tables.py`."""

from __future__ import annotations

import math
from pathlib import Path

import page_tables
from page_tables import format_rows

from fmstats.diagnosis import RULE_THRESHOLDS, RULES
from fmstats.diagnosis.measures import COUNTED, RUN_SHARES

PAGE = Path(__file__).parent / "diagnose.md"


def main() -> None:
    """Write the page with new tables."""
    PAGE.write_text(renew(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def renew(page: str) -> str:
    """Return the page with new tables."""
    for name, table in (
        ("rules", _rules()),
        ("meanings", _meanings()),
        ("thresholds", _thresholds()),
        ("measures", _measures()),
    ):
        page = page_tables.renew(page, name, table)
    return page


def _rules() -> str:
    rows = [
        (f"`{name}`", ", ".join(rule.severities), rule.unit, rule.condition.replace("|", "\\|"))
        for name, rule in RULES.items()
    ]
    return format_rows(("rule", "severity", "judges", "it holds where"), rows)


def _meanings() -> str:
    rows = [(f"`{name}`", rule.meaning, rule.advice, rule.source) for name, rule in RULES.items()]
    return format_rows(("rule", "what it means", "what to do", "source"), rows)


def _thresholds() -> str:
    rows = [
        (
            f"`{name}`",
            f"{threshold.default:g}",
            f"{threshold.least:g} to {threshold.most:g}"
            if math.isfinite(threshold.most)
            else f"from {threshold.least:g}",
            threshold.meaning,
        )
        for name, threshold in RULE_THRESHOLDS.items()
    ]
    return format_rows(("threshold", "default", "range", "meaning"), rows)


def _measures() -> str:
    rows = [(f"`{name}`", f"number of {meaning}") for name, meaning in COUNTED.items()]
    rows += [(f"`{name}`", meaning) for name, meaning in RUN_SHARES.items()]
    for name, rule in RULES.items():
        among = "layers that give zeros" if rule.among else "layers it applies to"
        rows.append((f"`{name}`", f"share of {rule.unit} that the rule finds, among {among}"))
    return format_rows(("measure", "meaning"), rows)


if __name__ == "__main__":
    main()
