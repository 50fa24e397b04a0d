"""Format the layer table and the totals for readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fmstats.analysis.rows import LayerRow, Part, extent_of
from fmstats.errors import FmstatsError
from fmstats.output.tables import (
    Column,
    Row,
    Table,
    find_column,
    format_bytes,
    format_count,
    format_share,
    sort_rows,
)

DEFAULT_COLUMNS = (
    *("name", "type", "output_shape", "params", "flops", "flops_share"),
    *("activation_bytes", "receptive_field", "stride"),
)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "not run" if shape is None else "x".join(map(str, shape)) or "scalar"


def _extent(extent: Any) -> str:
    if extent is None:
        return "-"
    values = extent if isinstance(extent, tuple) else (extent,)
    return "x".join(f"{value:g}" for value in values)


def _ratio(x: float) -> str:
    return f"{x:.3g}"


def _bound(side: str | None) -> str:
    return side or "-"


COLUMNS = (
    Column("name", "layer", left=True, names=True),
    Column("type", "type", left=True, keep=5),
    Column("output_shape", "output", _shape, left=True, keep=7),
    Column("params", "params", format_count, keep=8),
    Column("flops", "FLOPs", format_count, keep=9),
    Column("macs", "MACs", format_count, keep=9),
    Column("activation_elements", "elements", format_count, keep=3),
    Column("activation_bytes", "activations", format_bytes, keep=6),
    Column("calls", "calls", keep=0),
    Column("receptive_field", "field", _extent, keep=1),
    Column("stride", "stride", _extent, keep=0),
    Column("traffic_bytes", "traffic", format_bytes, keep=4),
    Column("intensity", "FLOPs/byte", _ratio, keep=3),
    Column("bound", "bound by", _bound, keep=4),
    Column("params_share", "of params", format_share, keep=2),
    Column("flops_share", "of FLOPs", format_share, keep=2),
    Column("activations_share", "of activations", format_share, keep=2),
)


def make_table(
    rows: Sequence[LayerRow],
    parts: Mapping[str, Part],
    *,
    macs: bool = False,
    depth: int | None = None,
    columns: Sequence[str] | None = None,
    sort: str | None = None,
    top: int | None = None,
) -> Table:
    """Make the layer table of an analysis, its first `top` rows by the column `sort`.

    Args:
        rows: of the analysis.
        parts: of the analysis, by name.
        depth: as in `Analysis.table`.
        columns: as in `Analysis.table`.
        macs: show multiply-accumulates instead of FLOPs, where `columns` does not say.
        sort: a column, which is among those shown; for its order see
            `fmstats.output.tables.sort_rows`.
        top: how many rows; None: all.

    Raises:
        FmstatsError: no such column, or a depth below 1.
    """
    chosen = list(columns or DEFAULT_COLUMNS)
    if columns is None:
        chosen = ["macs" if macs and name == "flops" else name for name in chosen]
        if any(row.bound for row in rows):
            chosen += ["intensity", "bound"]
    chosen_rows: Sequence[Row] = roll_up(rows, depth, parts)
    if sort is not None:
        chosen_rows = sort_rows(chosen_rows, COLUMNS, sort)
        chosen.append(find_column(COLUMNS, sort.removeprefix("-")).name)
    shown = [find_column(COLUMNS, name) for name in dict.fromkeys(chosen)]
    # What text needs on the left comes first, so that columns line up.
    return Table(sorted(shown, key=lambda column: not column.left), chosen_rows[:top])


def format_markdown(table: Table) -> str:
    """Format a table with pipes between its cells."""
    rule = ["---" if column.left else "---:" for column in table.columns]
    lines = (table.header, rule, *table.cells())
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def roll_up(
    rows: Sequence[LayerRow], depth: int | None, parts: Mapping[str, Part]
) -> list[LayerRow]:
    """Return rows whose names have at most `depth` parts; deeper ones are added to their block."""
    if depth is None:
        return list(rows)
    if depth < 1:
        raise FmstatsError(f"depth={depth!r}: give 1 or more parts of a name")
    groups: dict[str, list[LayerRow]] = {}
    for row in rows:
        groups.setdefault(".".join(row.name.split(".")[:depth]), []).append(row)
    return [
        members[0] if [row.name for row in members] == [name] else _add_up(parts[name], members)
        for name, members in groups.items()
    ]


def _add_up(part: Part, members: Sequence[LayerRow]) -> LayerRow:
    def total(field: str) -> Any:
        return sum(row[field] for row in members)

    added = (
        *("params", "flops", "macs", "activation_elements", "activation_bytes"),
        *("traffic_bytes", "params_share", "flops_share", "activations_share"),
    )
    bounds = {row.bound for row in members if row.bound}
    traffic, last = total("traffic_bytes"), members[-1]
    return replace(
        last,
        name=part.name,
        type=part.type,
        # A list of modules is not called itself: what comes out of it, its last one gives.
        output_shape=last.output_shape if part.first is None else part.first.shape,
        receptive_field=extent_of(part.first, "size"),
        stride=extent_of(part.first, "stride"),
        bound=bounds.pop() if len(bounds) == 1 else None,
        intensity=total("flops") / traffic if traffic else 0.0,
        calls=max(row.calls for row in members),
        **{field: total(field) for field in added},
    )


def describe_totals(
    totals: Mapping[str, Any], outweigh_batch: int | None, largest: Sequence[LayerRow]
) -> str:
    """Describe the totals in words, and compare activations with parameters.

    Args:
        totals: of an analysis.
        outweigh_batch: what `Analysis.outweigh_batch` gives.
        largest: the rows with the largest activations, the largest first.
    """
    saved = totals["saved_for_backward_bytes"]
    macs, flops = format_count(totals["macs"], "MACs"), format_count(totals["flops"], "FLOPs")
    lines = [
        f"{format_count(totals['params'])} parameters ({format_bytes(totals['param_bytes'])}), "
        f"{macs} ({flops}) for a batch of "
        + ("unknown size" if totals["batch"] is None else str(totals["batch"])),
        f"activations: {format_bytes(totals['activation_bytes'])} over all layers, "
        f"{format_bytes(totals['peak_activation_bytes'])} at once at inference"
        + ("" if saved is None else f", {format_bytes(saved)} kept for backward in training"),
    ]
    if outweigh_batch is not None:
        lines.append(
            f"in training, activations outweigh the parameters from a batch of {outweigh_batch} on"
        )
    named = ", ".join(
        f"{row.name} ({format_bytes(row.activation_bytes)})"
        for row in largest
        if row.activation_bytes
    )
    if named:
        lines.append(f"largest activations: {named}")
    return "\n".join(lines)
