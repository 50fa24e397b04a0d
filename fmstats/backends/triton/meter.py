"""The meter of the triton backend measures one layer's tensors with Triton's kernels.

The last tensor's plan is kept: the next one of the same kind costs two launches and no arithmetic.
A layer that runs on another stream than last time first waits, on the device, for that stream.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fmstats.backends.base import Backend, Meter
from fmstats.backends.graph_captures import hold, refusal
from fmstats.backends.triton.engine import Engine
from fmstats.backends.triton.plan import (
    COUNTED,
    NOT,
    REPLAYED,
    VECTOR_BYTES,
    Launch,
    grouped_pieces_of,
    pieces_of,
    plan,
    plan_groups,
)
from fmstats.backends.triton.requested import Requested
from fmstats.statistic.clock import Clock
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import Positions, View


class Piece(NamedTuple):
    """A piece of a tensor takes two launches.

    Attributes:
        begin, number_begin: where it lies, from the first element and the first number on.
        launch, measure, fold: how to launch which kernels.
    """

    begin: int
    number_begin: int
    launch: Launch
    measure: Any
    fold: Any


class Planned(NamedTuple):
    """What is planned serves tensors of one kind, which `key` tells."""

    key: tuple[object, ...] | None
    pieces: list[Piece]


class TritonMeter(Meter):
    """This meter measures one layer's tensors."""

    def __init__(
        self,
        backend: Backend,
        engine: Engine,
        state: State,
        thresholds: Thresholds,
        clock: Clock | None,
    ) -> None:
        super().__init__(backend, state, thresholds, clock)
        self._engine = engine
        if engine.capturing():
            raise refusal("a layer is measured for the first time")
        self._lock = threading.Lock()
        self._limits: dict[torch.dtype, Tensor] = {}
        # Of the last tensor, and of the last one whose positions were in groups.
        self._whole = self._grouped = Planned(None, [])
        self._stream: Any = None  # of the last launch
        self.try_update = self._try_update

    def update(self, x: Tensor, view: View) -> None:
        if view.channels == 0 or view.positions == 0:
            return
        with self._lock:
            key = _key(x)
            if key != self._whole.key:
                self._whole = self._plan(key, x, view, None)
            self._launch(self._whole, x)

    def update_groups(self, x: Tensor, view: View, positions: Positions) -> None:
        """Update the state, which has the channels of each group, by two launches as well."""
        if view.channels == 0 or view.positions == 0:
            return
        with self._lock:
            key = (*_key(x), view, positions.strides, positions.groups)
            if key != self._grouped.key:
                self._grouped = self._plan(key, x, view, positions)
            self._launch(self._grouped, x, positions.numbers)

    def wait(self) -> None:
        self._engine.wait()

    def _try_update(self, output: object) -> bool:
        if type(output) is not Tensor or not _is_plain(output):
            return False
        with self._lock:
            if _key(output) != self._whole.key:
                return False
            self._launch(self._whole, output)
        return True

    def _plan(
        self, key: tuple[object, ...], x: Tensor, view: View, positions: Positions | None
    ) -> Planned:
        if self._engine.capturing():
            raise refusal("a tensor of another kind than before is measured")
        if x.dtype not in self._limits:
            self._limits[x.dtype] = self._compared_as(x.dtype)
        dtype, row = str(x.dtype).removeprefix("torch."), self.state.words.stride(0)
        measures, sums = self.state.measures, bool(self.state.measures.sums)

        def piece_at(begin: int, view: View, number_begin: int, strides: tuple[int, ...]) -> Piece:
            where = (x.data_ptr() + begin * x.itemsize, x.itemsize, row)
            if positions is None:
                launch = plan(view, *where, 0, sums)
                fold = self._engine.fold_kernel(dtype, False, measures)
            else:
                launch = plan_groups(view, strides, positions.groups, *where, sums)
                fold = self._engine.fold_kernel(dtype, True, measures)
            measure = self._engine.measure_kernel(
                dtype, self._thresholds.mode, launch.layout, measures
            )
            return Piece(begin, number_begin, launch, measure, fold)

        if positions is None:
            return Planned(key, [piece_at(*piece, 0, ()) for piece in pieces_of(view)])
        pieces = grouped_pieces_of(view, positions.strides)
        return Planned(key, [piece_at(*piece) for piece in pieces])

    def _launch(self, planned: Planned, x: Tensor, numbers: Tensor | None = None) -> None:
        replayed = NOT
        if self._engine.capturing():
            hold(self)
            replayed = REPLAYED
        self._stream = self._engine.order(self._stream, self.state.words)
        last = planned.pieces[-1]
        for piece in planned.pieces:
            launch = piece.launch
            # Of the current stream: whoever gets this memory next on it comes after both launches.
            parts = torch.empty(launch.parts, dtype=torch.int64, device=x.device)
            memory = (self.state.words, parts, self._limits[x.dtype])
            counted = replayed and piece is last and self.state.memory is not None
            self._engine.launch(
                *(piece.measure, piece.fold, launch, x, piece.begin, self.clock.words),
                *(COUNTED if counted else replayed, *memory),
                numbers=None if numbers is None else (numbers, piece.number_begin),
                requested=Requested.of(self.state, launch),
            )

    def _compared_as(self, dtype: torch.dtype) -> Tensor:
        """Return the thresholds on the device, rounded for comparisons in elements of a type."""
        compared = torch.float64 if dtype == torch.float64 else torch.float32
        limits = torch.tensor(self._thresholds.compared_as(compared), dtype=torch.float64)
        return limits.to(self.state.words.device)


def _is_plain(x: Tensor) -> bool:
    """Tell whether a tensor is what its memory holds, at strides."""
    return (
        x.layout is torch.strided and not x.is_nested and not x.is_neg() and not x._is_zerotensor()
    )


def _key(x: Tensor) -> tuple[object, ...]:
    """Return what a plan depends on."""
    return x.dtype, x.device, x.shape, x.stride(), x.data_ptr() % VECTOR_BYTES
