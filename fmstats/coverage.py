"""Which of the selected layers were measured, and why the others were not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from fmstats.tables import format_table


@dataclass(frozen=True)
class CoverageRow:
    """What happened at one selected layer.

    Attributes:
        status: "tracked"; "skipped", its output has no statistics; or "never fired": no hook of it
            was called while the tracker was measuring.
        reason: why it was skipped, or that it is no longer in the model.
        calls: tensors folded in.
    """

    name: str
    type: str
    status: str
    reason: str | None
    calls: int


class Coverage(Sequence[CoverageRow]):
    """A row per selected layer; printing it shows a table."""

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
        rows = [(r.name, r.type, r.status, r.reason or "", str(r.calls)) for r in self._rows]
        return format_table(("layer", "type", "status", "reason", "calls"), rows, left=4)

    def __repr__(self) -> str:
        return f"Coverage({len(self)} layers)\n{self}"
