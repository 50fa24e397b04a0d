"""Renew tables of pages, between `<!-- NAME -->` and `<!-- /NAME -->`, from the code."""

from __future__ import annotations

import re
from collections.abc import Sequence


def renew(page: str, name: str, table: str) -> str:
    """Return the page with a new table between the marks of `name`."""
    marks = f"<!-- {name} -->", f"<!-- /{name} -->"
    page, found = re.subn(
        f"{marks[0]}.*?{marks[1]}",
        lambda _: f"{marks[0]}\n{table}\n{marks[1]}",
        page,
        flags=re.DOTALL,
    )
    if found != 1:
        raise SystemExit(f"{found} places for {marks[0]}, 1 needed")
    return page


def format_rows(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table in markdown."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
