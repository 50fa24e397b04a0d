"""Define tables and format them as plain text, without any library."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmstats.errors import FmstatsError, find_closest

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """Describes what a table shows of each row.

    Attributes:
        name: what rows, JSON and `--sort` call it.
        title: its heading, by which `--sort` knows it, too.
        show: its value as text.
        left: aligned left. Such columns come first.
        names: it holds names of layers, which a narrow terminal may shorten.
        keep: where room is short, the column with the least goes first. The first column of a table
            stays.
        read: its value in a row; None: what the row has by its name.
        grade: the severity of a value, "error" or "warning"; None for an ordinary one.
        was: its heading in fmstats 0.1, by which `--sort` still knows it.
    """

    name: str
    title: str
    show: Callable[[Any], str] = str
    left: bool = False
    names: bool = False
    keep: int = 0
    read: Callable[[Row], Any] | None = None
    grade: Callable[[Any], str | None] | None = None
    was: str | None = None

    def value(self, row: Row) -> Any:
        """Return the value of the column in a row."""
        return row[self.name] if self.read is None else self.read(row)


@dataclass(frozen=True)
class Table:
    """Holds rows and the columns shown; `str` gives plain text of its natural width."""

    columns: Sequence[Column]
    rows: Sequence[Row]

    @property
    def header(self) -> list[str]:
        """Return the headings."""
        return [column.title for column in self.columns]

    def cells(self) -> list[list[str]]:
        """Return the text of each cell, row by row."""
        return [[column.show(column.value(row)) for column in self.columns] for row in self.rows]

    def __str__(self) -> str:
        return self.format(self.cells())

    def format(self, cells: Sequence[Sequence[str]]) -> str:
        """Format the table as text with other texts in its cells."""
        return format_table(self.header, cells, sum(column.left for column in self.columns))


Block = str | Table  # what is printed: lines of text, "" for an empty one, or a table


def join_blocks(blocks: Iterable[Block]) -> str:
    """Join blocks below each other as plain text."""
    return "\n".join(map(str, blocks))


def space_out(blocks: Iterable[Block]) -> list[Block]:
    """Put an empty line between the blocks."""
    return [each for block in blocks for each in ("", block)][1:]


def find_column(columns: Sequence[Column], name: str) -> Column:
    """Return the column with this name or heading.

    Raises:
        FmstatsError: there is none.
    """
    for column in columns:
        if name == column.name:
            return column
    for column in columns:
        if name == column.title:
            return column
    for column in columns:
        if name == column.was:
            text = f"the column {name!r} is called {column.name!r} now"
            warnings.warn(text, DeprecationWarning, stacklevel=3)
            return column
    near = find_closest(name, [text for c in columns for text in (c.title, c.name)], count=1)
    hint = f"; closest: {near[0]}" if near else ""
    known = [c.title if c.title == c.name else f"{c.title} ({c.name})" for c in columns]
    raise FmstatsError(f"there is no column {name!r}{hint}; choose from {', '.join(known)}")


def sort_rows(rows: Sequence[Row], columns: Sequence[Column], by: str) -> list[Row]:
    """Sort rows by a column: numbers largest first, texts from A to Z; a leading `-` reverses it.

    Rows without a value there come last in either case. Equal rows keep their order.

    Raises:
        FmstatsError: there is no such column.
    """
    turned = by.startswith("-")
    column = find_column(columns, by[turned:])
    keyed = [(_sort_key(column.value(row)), row) for row in rows]
    known = [pair for pair in keyed if pair[0] is not None]
    numbers = not any(isinstance(key, list) for key, _ in known)
    known.sort(key=lambda pair: pair[0], reverse=numbers != turned)
    return [row for _, row in known] + [row for key, row in keyed if key is None]


def _sort_key(value: Any) -> Any:
    """Return a number, the parts of a text (`a.10` after `a.9`), or None for no value."""
    if isinstance(value, str):
        parts = re.split(r"0*([0-9]+)", value)
        # A number by its length, then its digits: Python makes none of more than 4300 digits.
        return [(len(part), part) if i % 2 else part for i, part in enumerate(parts)]
    if isinstance(value, tuple):
        return math.prod(value)
    return None if value is None or value != value else value


def make_printable(text: str) -> str:
    r"""Escape control characters, which a terminal would obey, so that a text is one line."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Format columns two spaces apart: the first `left` aligned left, the others right."""
    rows = [[make_printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def format_number(x: float | None) -> str:
    """Format a number with four significant digits; a dash stands for none."""
    return "-" if x is None or x != x else f"{x:.4g}"


def format_share(x: float | None) -> str:
    """Format a fraction as a percentage; a dash stands for none."""
    return "-" if x is None or x != x else f"{100 * x:.1f}%"


def format_plural(n: int, what: str) -> str:
    """Format a count and a noun with a plural in s: `1 layer`, `12,000 layers`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def name_some(names: Sequence[str], most: int) -> str:
    """Name the first names, and count the rest: `a, b and 3 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def format_count(n: float, unit: str = "") -> str:
    """Format three significant digits with k, M, G, T or P: `1.5M`, with a unit `1.5 MB`."""
    number, prefix = _scale(n, 1000.0, ("", "k", "M", "G", "T", "P"))
    return f"{number} {prefix}{unit}" if unit else number + prefix


def format_bytes(n: float) -> str:
    """Format bytes in units of 1024: `1.5 MiB`."""
    return " ".join(_scale(n, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB")))


def _scale(n: float, base: float, prefixes: Sequence[str]) -> tuple[str, str]:
    power = 0
    while abs(n) >= 999.5 and power < len(prefixes) - 1:  # 999.5 would be printed as 1000
        n, power = n / base, power + 1
    return f"{n:.3g}" if power else f"{n:.0f}", prefixes[power]
