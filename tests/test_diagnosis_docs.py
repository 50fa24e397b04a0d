"""docs/diagnose.md and the registry say the same."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from fmstats.diagnosis import RULE_THRESHOLDS, RULES
from fmstats.diagnosis.measures import COUNTED

DOCS = Path(__file__).parent.parent / "docs"


def test_tables_are_those_of_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    tables = importlib.import_module("diagnose_tables")
    page = (DOCS / "diagnose.md").read_text()
    assert tables.renew(page) == page, "run python docs/diagnose_tables.py"


def test_every_name_is_described() -> None:
    page = (DOCS / "diagnose.md").read_text()
    for name in (*RULES, *RULE_THRESHOLDS, *COUNTED):
        assert f"| `{name}` |" in page


def test_the_schema_names_every_key() -> None:
    page = (DOCS / "diagnose.md").read_text()
    keys = (
        *("schema", "layers", "rules", "thresholds", "measures", "findings", "not_enough_data"),
        *("fail_on", "failed", "layer", "type", "rule", "severity", "message", "channels", "width"),
        *("evidence", "calls", "samples", "elements", "advice", "follows", "value", "at_least"),
        *("unseen", "unmasked", "unmeasured"),
        *("at_most", "unit", "reason", "condition", "verdict"),
    )
    assert not [key for key in keys if f"`{key}`" not in page]
