"""`show_over_time` draws a number of each layer over the steps of training, as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fmstats.errors import FmstatsError, find_closest
from fmstats.histories.history import History
from fmstats.models.selection import has_name
from fmstats.output.tables import Block, Column, Row, Table, format_number

# As `fmstats.profiles.strips` draws histograms; the first is for what is not known.
_LINE = 24  # characters of a line over steps


def list_numbers(history: History, stat: str, layers: Sequence[str] = ()) -> list[Row]:
    """Return a row per layer: its number in each entry, and in which it was first not finite.

    Args:
        history: with at least one entry.
        stat: a column of `Profile.layers`.
        layers: names or globs; none: all.

    Raises:
        FmstatsError: no entry, no such number, or no such layer.
    """
    entries = [(step, {row["layer"]: row for row in profile.layers()}) for step, profile in history]
    if not entries:
        raise FmstatsError(f"{str(history.path)!r} has no entry: it holds no history")
    names = dict.fromkeys(name for _, rows in entries for name in rows)
    chosen = [n for n in names if not layers or any(has_name(each, n) for each in layers)]
    if not chosen:
        raise FmstatsError(f"--layer {', '.join(layers)}: no layer of the history matches")
    known = [key for key, value in next(iter(entries[0][1].values())).items() if _is_number(value)]
    if stat not in known:
        near = find_closest(stat, known, count=1)
        hint = f"; closest: {near[0]}" if near else ""
        raise FmstatsError(f"there is no number {stat!r}{hint}; choose from {', '.join(known)}")
    return [
        {
            "layer": name,
            "type": next(rows[name]["type"] for _, rows in entries if name in rows),
            "values": [_read(rows.get(name), stat) for _, rows in entries],
            "first_nonfinite": next((step for step, rows in entries if _bad(rows.get(name))), None),
        }
        for name in chosen
    ]


def draw_over_time(history: History, stat: str, layers: Sequence[str], blocks: str) -> list[Block]:
    """Return a table with a line over the entries for each layer.

    Args:
        history: with at least one entry.
        stat: a column of `Profile.layers`.
        layers: names or globs; none: all.
        blocks: a character for what is not known, and others from the lowest to the highest.

    Raises:
        FmstatsError: as `list_numbers`.
    """
    rows = [
        {
            **row,
            "line": _draw(row["values"], blocks),
            "first": row["values"][0],
            "last": row["values"][-1],
            "least": min(filter(_is_known, row["values"]), default=None),
            "most": max(filter(_is_known, row["values"]), default=None),
        }
        for row in list_numbers(history, stat, layers)
    ]
    bad = any(row["first_nonfinite"] is not None for row in rows)
    columns = [
        Column("layer", "layer", left=True, names=True),
        Column("type", "type", left=True, keep=2),
        Column("line", f"{stat} over steps", left=True, keep=9),
        Column("first", "first", format_number, keep=6),
        Column("last", "last", format_number, keep=7),
        Column("least", "min", format_number, keep=3),
        Column("most", "max", format_number, keep=4),
    ]
    if bad:
        tell = Column(
            "first_nonfinite",
            "NaN or inf by step",
            lambda step: "-" if step is None else f"{step:,}",
            keep=8,
            grade=lambda step: None if step is None else "error",
        )
        columns.append(tell)
    note = "Each line has a scale of its own, from the smallest number of its layer to the largest."
    return [Table(columns, rows), note]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _read(row: Mapping[str, float] | None, stat: str) -> float | None:
    value = None if row is None else row[stat]
    return None if value is None or not math.isfinite(value) else float(value)


def _bad(row: Mapping[str, int] | None) -> bool:
    return row is not None and row["nan"] + row["inf"] > 0


def _draw(values: Sequence[float | None], blocks: str) -> str:
    """Draw a line of at most `_LINE` characters; of several entries in one, the last counts."""
    count = min(len(values), _LINE)
    shown = [values[(i + 1) * len(values) // count - 1] for i in range(count)]
    known = [value for value in shown if value is not None]
    if not known:
        return blocks[0] * count
    low, high = min(known), max(known)
    steps = len(blocks) - 2
    return "".join(
        blocks[0]
        if value is None
        else blocks[1 + (round(steps * (value - low) / (high - low)) if high > low else steps // 2)]
        for value in shown
    )
