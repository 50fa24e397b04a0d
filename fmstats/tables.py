"""Plain-text tables, for printing without any library."""

from __future__ import annotations

from collections.abc import Sequence


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns two spaces apart: the first `left` ones aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def format_number(x: float) -> str:
    """Four significant digits, short."""
    return f"{x:.4g}"


def format_share(x: float | None) -> str:
    """A fraction as a percentage; a dash for none."""
    return "-" if x is None or x != x else f"{100 * x:.1f}%"
