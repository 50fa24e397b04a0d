"""`Coverage` tells which of the selected layers were measured, and why others were not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

from fmstats.output.tables import format_plural, format_table, make_printable

UNSEEN = "unseen"  # the status of a part whose operations cannot be followed
UNMASKED = "unmasked"  # the status of a layer whose tensors a mask did not fit
_SHOWN = 5  # layers in a text


@dataclass(frozen=True)
class CoverageRow:
    """A row of coverage tells what happened at one selected layer.

    Attributes:
        status: "tracked"; "in part", some of its outputs have no statistics; "skipped", its last
            output has none; "unmasked": the mask or the groups did not fit some of its tensors,
            which were left out or, if that was asked, counted whole; "never fired": no hook of it
            was called while the tracker was measuring; or "unseen": a part whose operations cannot
            be followed, so that feature maps without a row may be in it.
        reason: why something was left out, or that it is no longer in the model.
        calls: tensors measured.
        channels: which dim was read as channels, and how it was found; "" before it was.
    """

    name: str
    type: str
    status: str
    reason: str | None
    calls: int
    channels: str = ""


class Coverage(Sequence[CoverageRow]):
    """A coverage has a row for each selected layer; printing it shows a table.

    Examples:
        >>> import torch
        >>> with fmstats.track(torch.nn.ReLU()) as tracker:
        ...     print(tracker.coverage())
        layer    type  status       reason  channels  calls
        (model)  ReLU  never fired                        0
    """

    def __init__(self, rows: Sequence[CoverageRow]) -> None:
        self._rows = list(rows)

    @overload
    def __getitem__(self, index: int) -> CoverageRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[CoverageRow]: ...
    def __getitem__(self, index: int | slice) -> CoverageRow | list[CoverageRow]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __str__(self) -> str:
        rows = [
            (r.name, r.type, r.status, r.reason or "", r.channels, str(r.calls)) for r in self._rows
        ]
        heads = ("layer", "type", "status", "reason", "channels", "calls")
        return format_table(heads, rows, left=5)

    def __repr__(self) -> str:
        return f"Coverage({len(self)} layers)\n{self}"


def describe_row(row: Mapping[str, object]) -> str:
    """Describe a layer that a run did not measure, or not all of, as its metadata tells."""
    why = f", {row['reason']}" if row.get("reason") else ""
    return f"{row.get('name')} ({row.get('type')}): {row.get('status')}{why}"


def describe_not_measured(rows: Sequence[Mapping[str, object]]) -> str:
    """Describe all such layers, as lines of text; "" where there are none."""
    if not rows:
        return ""
    lines = [f"  {make_printable(describe_row(row))}" for row in rows[:_SHOWN]]
    more = len(rows) - len(lines)
    title = f"not measured, or not all of it: {format_plural(len(rows), 'selected layer')}"
    return "\n".join([title, *lines, *([f"  and {more:,} more"] if more > 0 else [])])
