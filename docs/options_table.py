"""Make the table of docs/options.md from `TrackOptions`: `python docs/options_table.py`."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from fmstats.tracking.options import TrackOptions

PAGE = Path(__file__).parent / "options.md"
MARKS = "<!-- options -->", "<!-- /options -->"


def main() -> None:
    """Write the page with a new table."""
    PAGE.write_text(renew(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def renew(page: str) -> str:
    """The page, what is between `MARKS` made anew."""
    page, found = re.subn(
        f"{MARKS[0]}.*?{MARKS[1]}",
        lambda _: f"{MARKS[0]}\n{_table()}\n{MARKS[1]}",
        page,
        flags=re.DOTALL,
    )
    if found != 1:
        raise SystemExit(f"{PAGE}: {found} places for {MARKS[0]}, 1 needed")
    return page


def _table() -> str:
    rows = [("option", "default", "what it asks for"), ("---", "---", "---")]
    for option in fields(TrackOptions):
        told = option.metadata
        text = told["description"]
        if told["choices"]:
            text += f" One of {', '.join(f'`{choice!r}`' for choice in told['choices'])}."
        if not told["shared"]:
            text += " `track` alone."
        rows.append((f"`{option.name}`", f"`{option.default!r}`", text))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
