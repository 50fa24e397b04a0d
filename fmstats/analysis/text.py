"""The layer table and the totals as people read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fmstats.analysis.rows import COLUMNS, LayerRow, Part, extent_of
from fmstats.errors import FmstatsError
from fmstats.tables import format_bytes, format_count, format_share, format_table

if TYPE_CHECKING:
    from fmstats.analysis.result import Analysis

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


_FORMATS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "name": ("layer", str),
    "type": ("type", str),
    "output_shape": ("output", _shape),
    "params": ("params", format_count),
    "flops": ("FLOPs", format_count),
    "macs": ("MACs", format_count),
    "activation_elements": ("activations", format_count),
    "activation_bytes": ("activations", format_bytes),
    "calls": ("calls", str),
    "receptive_field": ("field", _extent),
    "stride": ("stride", _extent),
    "traffic_bytes": ("traffic", format_bytes),
    "intensity": ("FLOPs/byte", lambda x: f"{x:.3g}"),
    "bound": ("bound by", lambda x: x or "-"),
    "params_share": ("of params", format_share),
    "flops_share": ("of FLOPs", format_share),
    "activations_share": ("of activations", format_share),
}
_LEFT = ("name", "type", "output_shape")


def format_rows(rows: Sequence[LayerRow], columns: Sequence[str], markdown: bool) -> str:
    """A header and a line per row.

    Raises:
        FmstatsError: a column that no row has.
    """
    for column in columns:
        if column not in _FORMATS:
            raise FmstatsError(f"there is no column {column!r}: choose from {', '.join(COLUMNS)}")
    # What text needs on the left comes first, so that columns line up.
    chosen = sorted(columns, key=lambda column: column not in _LEFT)
    header = [_FORMATS[column][0] for column in chosen]
    cells = [[_FORMATS[column][1](row[column]) for column in chosen] for row in rows]
    left = sum(column in _LEFT for column in chosen)
    if not markdown:
        return format_table(header, cells, left=left)
    rule = ["---" if i < left else "---:" for i in range(len(chosen))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *cells))


def roll_up(
    rows: Sequence[LayerRow], depth: int | None, parts: Mapping[str, Part]
) -> list[LayerRow]:
    """Rows whose names have at most `depth` parts; deeper ones are added up in their block."""
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


def describe_totals(analysis: Analysis) -> str:
    """The totals in words, with the takeaway on activations and parameters."""
    totals = analysis.totals
    saved = totals["saved_for_backward_bytes"]
    macs, flops = format_count(totals["macs"], "MACs"), format_count(totals["flops"], "FLOPs")
    lines = [
        f"{format_count(totals['params'])} parameters ({format_bytes(totals['param_bytes'])}), "
        f"{macs} ({flops})"
        + ("" if totals["batch"] is None else f" for a batch of {totals['batch']}"),
        f"activations: {format_bytes(totals['activation_bytes'])} over all layers, "
        f"{format_bytes(totals['peak_activation_bytes'])} at once at inference"
        + ("" if saved is None else f", {format_bytes(saved)} kept for backward in training"),
    ]
    batch = analysis.outweigh_batch()
    if batch is not None:
        lines.append(f"in training, activations outweigh the parameters from a batch of {batch} on")
    largest = [row for row in analysis.largest(3) if row.activation_bytes]
    if largest:
        named = ", ".join(f"{r.name} ({format_bytes(r.activation_bytes)})" for r in largest)
        lines.append(f"largest activations: {named}")
    return "\n".join(lines)
