"""Parts of pages that code makes are renewed between their marks, and nothing beside them."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"
# Each page, and the parts of it that scripts of docs/ and benchmarks/ renew.
PARTS = {
    "diagnose.md": ["rules", "meanings", "bench", "thresholds", "measures"],
    "drift.md": ["random halves", "shapes"],
    "options.md": ["options"],
    "performance.md": ["predicted"],
}


@pytest.fixture
def page_tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("page_tables")


def test_a_part_is_replaced_between_its_marks(page_tables: ModuleType) -> None:
    page = "a <!-- x -->old\nlines<!-- /x --> b <!-- y -->kept<!-- /y -->"
    new = page_tables.renew(page, "x", r"\1 | new")
    assert new == "a <!-- x -->\n\\1 | new\n<!-- /x --> b <!-- y -->kept<!-- /y -->"
    assert page_tables.renew(new, "x", r"\1 | new") == new


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("a", 0),
        ("<!-- /x --> <!-- x -->", 0),
        ("<!-- x -->", 0),
        ("<!-- x --><!-- /x -->" * 2, 2),
    ],
)
def test_a_page_needs_one_place(page_tables: ModuleType, page: str, found: int) -> None:
    with pytest.raises(SystemExit, match=f"has {found} places from <!-- x --> to <!-- /x -->"):
        page_tables.renew(page, "x", "new")


def test_pages_have_the_parts_that_scripts_renew(page_tables: ModuleType) -> None:
    marked = {path.name: path.read_text() for path in DOCS.glob("*.md")}
    found = {name: re.findall(r"<!-- /([\w ]+) -->", text) for name, text in marked.items()}
    assert {name: parts for name, parts in found.items() if parts} == PARTS
    for name, parts in PARTS.items():
        for part in parts:
            assert page_tables.renew(marked[name], part, "") != marked[name]
