"""`RowSet` holds the rows of one layer, or of one of its calls: one for each width."""

from __future__ import annotations

from fmstats.tracking.gates import Gate
from fmstats.tracking.layer_spec import LayerSpec
from fmstats.tracking.rows import Row

# Of one layer. Networks that share one activation everywhere show a dozen; maps whose last dim is
# the length of a text would make a row for each length.
MOST_WIDTHS = 32


class RowSet:
    """The rows of a layer, in the order of their first tensors.

    Attributes:
        rows: a tuple that is replaced when a row begins, so that others may iterate over it.
        scale: what is measured, over what is told of it.
    """

    def __init__(self, spec: LayerSpec, gate: Gate, call: int | None) -> None:
        self._spec, self._gate, self._call = spec, gate, call
        self.rows: tuple[Row, ...] = ()
        self.scale = 1.0
        self._reserved: int | None = None  # the execution index of the first row

    def of(self, width: int) -> Row | None:
        """Return the row of a width, made if there is none; None if there are too many."""
        for row in self.rows:
            if row.width == width:
                if row.execution_index is None:
                    row.execution_index = self._next_execution_index()
                return row
        if len(self.rows) >= MOST_WIDTHS:  # but those that were forgotten since make room
            kept = self._in_use()
            if len(kept) >= MOST_WIDTHS:
                return None
            self.rows = kept
        return self._add(width, self._next_execution_index())

    def restored(self, width: int, execution_index: int) -> Row:
        """Return the row of a width that goes on from another run, and has its place there."""
        self.rows = self._in_use()
        row = next((row for row in self.rows if row.width == width), None)
        if row is None:
            return self._add(width, execution_index)
        row.execution_index = execution_index
        return row

    def reserve(self) -> None:
        """Have the first row begin now among those of all layers, if none has."""
        if not self.rows and self._reserved is None:
            self._reserved = self._gate.next_execution_index()

    def begin_anew(self) -> None:
        """Forget when the rows were first called; they have seen nothing since `reset()`."""
        self._reserved = None
        for row in self.rows:
            row.execution_index = None

    def rescale(self, scale: float) -> None:
        """Take tensors for `scale` times what is to be told of them, from now on."""
        self.scale = scale
        for row in self.rows:
            row.rescale(scale)

    def _next_execution_index(self) -> int:
        reserved, self._reserved = self._reserved, None
        return self._gate.next_execution_index() if reserved is None else reserved

    def _add(self, width: int, execution_index: int) -> Row:
        row = Row(self._spec, self._call, width, execution_index, self.scale, self._gate)
        self.rows = (*self.rows, row)
        return row

    def _in_use(self) -> tuple[Row, ...]:
        """Return the rows without those that have seen nothing, unless graphs hold their memory."""
        return tuple(row for row in self.rows if row.in_graphs or row.count_calls())
