"""Make the table of docs/options.md from `TrackOptions`: `python docs/options_table.py`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import page_tables

from fmstats.tracking.options import TrackOptions

PAGE = Path(__file__).parent / "options.md"


def main() -> None:
    """Write the page with a new table."""
    PAGE.write_text(renew(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def renew(page: str) -> str:
    """Return the page with a new table."""
    return page_tables.renew(page, "options", _table())


def _table() -> str:
    rows = []
    for option in fields(TrackOptions):
        declared = option.metadata
        text = declared["description"]
        if declared["choices"]:
            text += f" One of {', '.join(f'`{choice!r}`' for choice in declared['choices'])}."
        if not declared["shared"]:
            text += " `track` alone."
        rows.append((f"`{option.name}`", f"`{option.default!r}`", text))
    return page_tables.format_rows(("option", "default", "what it asks for"), rows)


if __name__ == "__main__":
    main()
