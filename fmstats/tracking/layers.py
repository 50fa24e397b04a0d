"""`Layer` keeps the statistics of one tracked layer while a model runs.

An output is reduced at once and not kept: an in-place operation that follows cannot change what was
seen, and no activation is held alive. A layer that one model calls with several widths, as an
activation that several places share, has a row for each.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor

from fmstats.backends.base import decline
from fmstats.errors import FmstatsError
from fmstats.models.output_tensors import first_tensor, plain_part, why_skipped
from fmstats.operations.channel_finder import ChannelFinder
from fmstats.operations.channel_flow import Origin
from fmstats.operations.position_flow import PositionFlow
from fmstats.output.tables import format_plural
from fmstats.profiles.profile import LayerProfile
from fmstats.profiles.row_names import RowKey
from fmstats.statistic.state import State
from fmstats.statistic.view import view_of
from fmstats.tracking.aside import aside
from fmstats.tracking.gates import Gate
from fmstats.tracking.layer_positions import LayerPositions, MismatchError, Placed
from fmstats.tracking.layer_spec import LayerSpec
from fmstats.tracking.row_set import MOST_WIDTHS, RowSet
from fmstats.tracking.rows import Row
from fmstats.tracking.snapshots import LayerSnapshot, RowSnapshot


class Layer:
    """A `Layer` holds the rows of one layer, or of one of its calls, while they are filled.

    Attributes:
        reason: why the last output was not measured, None if it was.
        in_python: why graphs hand tensors to Python; None if they do not.
        left_out: tensors without a row, since their widths came after `MOST_WIDTHS` others.
        channels: chooses the dim that is read as channels.
        positions: tells which of a tensor's positions count.
    """

    def __init__(self, spec: LayerSpec, gate: Gate, call: int | None = None) -> None:
        self.spec, self._gate, self._call = spec, gate, call
        self._nothing = Row(spec, call, 0, None, 1.0, gate)  # declines whatever it is handed
        self._last = self._nothing  # the row of the last tensor, which is at `_place` of `rows`
        self._place = 0
        self._rows = RowSet(spec, gate, call)
        self.channels = ChannelFinder(spec.channels)
        self.positions = LayerPositions(gate, spec)
        self._disabled = False
        self._lock = threading.RLock()
        self.reason: str | None = None
        self.in_python: str | None = None
        self.left_out = 0

    @property
    def name(self) -> str:
        """Return the layer's name, and the number of the call."""
        return RowKey(self.spec.name, self._call, 0).base

    @property
    def rows(self) -> tuple[Row, ...]:
        """Return the rows, one for each width, in their order."""
        return self._rows.rows

    @property
    def layers(self) -> Sequence[Layer]:
        """Return itself: only `PerCall` has several."""
        return (self,)

    @property
    def calls(self) -> int:
        """Return the number of tensors measured, but for those that only a device has counted."""
        return sum(row.count_calls() for row in self.rows)

    def count_calls(self) -> int:
        """Count all tensors measured; this waits for devices."""
        return self.calls + sum(state.replayed for state in self.states)

    def update(self, output: object) -> None:
        """Update the statistics with the first float tensor of an output.

        Raises:
            FmstatsError: it cannot be measured as asked, and `on_error="raise"`.
        """
        row = self._last
        try:
            if row.try_update(output):
                row.calls += 1
            elif not self._disabled:
                self._update_other(output)
        except Exception as error:
            self.fail(error)

    def skip(self, reason: str) -> None:
        """Say why an output was not measured."""
        if not self._disabled:
            self.reason = None if self.calls else f"its {self.spec.of} {reason}"

    def fail(self, error: Exception) -> None:
        """Stop measuring this layer and warn of it.

        Raises:
            FmstatsError: `on_error="raise"`, or a mask does not fit and `mask_mismatch="raise"`.
        """
        self._last = self._nothing
        if isinstance(error, MismatchError):
            raise MismatchError(f"layer {self.name!r} ({self.spec.type}): {error}") from None
        message = f"layer {self.name!r} ({self.spec.type}): {error}"
        if self.spec.on_error == "raise":
            raise FmstatsError(message) from error
        for row in self.rows:
            row.close_graphs()
        self._disabled, self.reason = True, f"disabled after an error: {error}"
        warnings.warn(
            f"fmstats no longer measures {message}; on_error='raise' raises instead",
            RuntimeWarning,
            stacklevel=3,
        )

    def note_in_python(self, why: str) -> None:
        """Note why graphs hand tensors to Python, now that one is made.

        The rows that it measures itself begin now, so that the first row of this layer has its
        place among them as well.
        """
        self.in_python = why
        self._rows.reserve()

    def claim(self) -> Layer:
        """Return itself: only `PerCall` has a layer for each call."""
        return self

    def expect(self, count: int, origin: Origin) -> None:
        """Note where the channels of tensors are that are to come, by their number of dims."""
        self.channels.expect(count, origin)

    def expect_positions(self, x: Tensor, flow: PositionFlow) -> None:
        """Note where positions lie in a tensor to come, which may be without data."""
        self.positions.expect(x, flow)

    def forget_ways(self) -> None:
        """Take no way past the positions of the next pass.

        Raises:
            FmstatsError: there are graphs that go past them.
        """
        if any(row.in_graphs for row in self.rows):
            raise FmstatsError(
                f"compiled graphs count all positions of layer {self.name!r}: give mask= or "
                "groups= to track before the model is compiled"
            )
        with self._lock:  # not between the update of another thread and the way that it leaves
            self._last = self._nothing
            for row in self.rows:
                row.try_update = decline

    def rescale(self, scale: float) -> None:
        """Take outputs for `scale` times what is to be told of them, from now on."""
        if scale != self._rows.scale:
            with self._lock:
                self._rows.rescale(scale)

    def _update_other(self, output: object) -> None:
        """Update with an output that is not as the last one."""
        rows, last = self.rows, self._place
        for i in range(1, len(rows) + 1):  # from the next: a model calls it in one order each time
            place = (last + i) % len(rows)
            row = rows[place]
            if row.try_update(output):
                row.calls += 1
                self._last, self._place, self.reason = row, place, None
                return
        with self._lock:  # two threads must not begin a row each for itself
            self._last = self._nothing
            with aside():
                self._update(output)

    def _update(self, output: object) -> None:
        x = first_tensor(output)
        origin = None if x is None else self._gate.origin_of(x)
        spread = None if x is None else self.positions.spread_of(x)
        if x is not None and type(x) is not Tensor:
            part = plain_part(x, lambda whole: self.channels.find(whole.shape, origin))
            if isinstance(part, str):
                self.reason = f"its {self.spec.of} {part}"
                return
            x = part
        why = why_skipped(x, output)
        self.reason = why and f"its {self.spec.of} {why}"
        if x is None or why:
            return
        x = x.resolve_neg()
        if x.numel() == 0:
            return self.skip("is empty")
        dim = self.channels.find(x.shape, origin)
        if self._gate.watch is not None:
            if self.channels.mixed:
                self._gate.watch.tell_sizes_apart()
            if origin is None and self.channels.guessed:
                self._gate.watch.follow_again()
        placed = self.positions.place(x, dim, spread)
        if isinstance(placed, str) and self.positions.refuses(f"its {self.spec.of} {placed}"):
            return
        row = self.row_of(1 if dim is None else x.shape[dim])
        if row is None:
            self.left_out += 1
            return
        if isinstance(placed, Placed):
            row.update_groups(x, placed.view, dim, placed.positions, placed.room, placed.way)
        else:
            row.update(x, view_of(x, dim), dim)
            row.unmasked += placed is not None
            if self._gate.positions is not None and self._gate.positions.may_ask:
                row.try_update = decline  # the next pass may have a mask
        row.calls += not (self._gate.captured and row.is_captured(x.device))
        self._last, self._place = row, self.rows.index(row)

    def row_of(self, width: int) -> Row | None:
        """Return the row of a width, made if there is none; None if there are too many."""
        return self._rows.of(width)

    def why_partial(self) -> str | None:
        """Tell why some tensors have no row though others have; None if all have."""
        if not self.left_out:
            return self.spec.left_out
        return (
            f"{format_plural(self.left_out, 'tensor')} without a row: each came with another "
            f"number of channels than the first {MOST_WIDTHS}; give channel_dim= or exclude= it"
        )

    @property
    def states(self) -> list[State]:
        """Return what has been seen so far, of each row on each device."""
        return [state for row in self.rows for state in row.states]

    def restore(
        self, saved: LayerProfile, groups: Mapping[int, State], execution_index: int
    ) -> None:
        """Go on from a row that another run has saved; this one has seen nothing of its width."""
        row = self._rows.restored(saved.stats.channels, execution_index)
        row.restore(saved, groups)
        self.channels.restore(saved.dims)

    def begin_anew(self) -> None:
        """Forget when the rows were first called; they have seen nothing since `reset()`."""
        self._rows.begin_anew()

    def reset(self) -> None:
        """Forget all that was seen, but not where channels are; an error that disabled it stays."""
        with self._lock:  # not between the reading and the writing of an update
            for row in self.rows:
                row.reset()
            self._last, self.left_out = self._nothing, 0
            self.positions.reset()
            self.channels.forget()
            if not self._disabled:
                self.reason = None

    def take_snapshot(self) -> LayerSnapshot:
        """Return what `rollback` needs beside the states to restore the layer of now."""
        rows = {row.width: row.take_snapshot() for row in self.rows}
        return LayerSnapshot(self.reason, self.left_out, rows)

    def rollback(self, snapshot: LayerSnapshot) -> None:
        """Restore the layer of a snapshot, after the caller has put back the states of then.

        Rows made since are empty; an error that disabled the layer since stays.
        """
        self.reset()
        for row in self.rows:
            row.rollback(snapshot.rows.get(row.width, RowSnapshot()))
        self.left_out = snapshot.left_out
        self.reason = self.reason or snapshot.reason

    @contextmanager
    def held(self) -> Iterator[tuple[Row, ...]]:
        """Yield the rows, complete up to now, which are not reset while they are held."""
        with self._lock:
            for row in self.rows:
                row.wait()
            yield self.rows
