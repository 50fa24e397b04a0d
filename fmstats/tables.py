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


def format_count(n: float, unit: str = "") -> str:
    """Three significant digits and k, M, G, T or P for thousands: `1.5M`, with a unit `1.5 MB`."""
    number, prefix = _scale(n, 1000.0, ("", "k", "M", "G", "T", "P"))
    return f"{number} {prefix}{unit}" if unit else number + prefix


def format_bytes(n: float) -> str:
    """Bytes in units of 1024: `1.5 MiB`."""
    return " ".join(_scale(n, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB")))


def _scale(n: float, base: float, prefixes: Sequence[str]) -> tuple[str, str]:
    power = 0
    while abs(n) >= 999.5 and power < len(prefixes) - 1:  # 999.5 would be printed as 1000
        n, power = n / base, power + 1
    return f"{n:.3g}" if power else f"{n:.0f}", prefixes[power]
