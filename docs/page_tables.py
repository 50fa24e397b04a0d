"""Renew parts of pages, between `<!-- NAME -->` and `<!-- /NAME -->`, that code makes."""

from __future__ import annotations

import re
from collections.abc import Sequence


def renew(page: str, name: str, table: str) -> str:
    """Return the page with a new table between the marks of `name`.

    Raises:
        SystemExit: the page has no such place, or several.
    """
    marks = f"<!-- {name} -->", f"<!-- /{name} -->"
    page, found = re.subn(
        f"{marks[0]}.*?{marks[1]}",
        lambda _: f"{marks[0]}\n{table}\n{marks[1]}",
        page,
        flags=re.DOTALL,
    )
    if found != 1:
        raise SystemExit(
            f"the page has {found} places from {marks[0]} to {marks[1]}: it must have one"
        )
    return page


def format_rows(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table in markdown."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
