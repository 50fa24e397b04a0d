"""The meter of the triton backend measures one layer's tensors with Triton's kernels.

The last tensor's plan is kept: the next one of the same kind costs two launches and no arithmetic.
A layer that runs on another stream than last time first waits, on the device, for that stream.
"""

from __future__ import annotations

import threading
from typing import Any

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
    pieces_of,
    plan,
)
from fmstats.statistic.clock import Clock
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import View

Piece = tuple[int, Launch, Any, Any]  # where it begins, how to launch, both kernels


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
        self._key: tuple[object, ...] | None = None
        self._pieces: list[Piece] = []
        self._stream: Any = None  # of the last launch
        self.try_update = self._try_update

    def update(self, x: Tensor, view: View) -> None:
        if view.channels == 0 or view.positions == 0:
            return
        with self._lock:
            key = _key(x)
            if key != self._key:
                if self._engine.capturing():
                    raise refusal("a tensor of another kind than before is measured")
                self._pieces = self._planned(x, view)
                if x.dtype not in self._limits:
                    self._limits[x.dtype] = self._compared_as(x.dtype)
                self._key = key
            self._launch(x)

    def wait(self) -> None:
        self._engine.wait()

    def _try_update(self, output: object) -> bool:
        if type(output) is not Tensor or not _is_plain(output):
            return False
        with self._lock:
            if _key(output) != self._key:
                return False
            self._launch(output)
        return True

    def _planned(self, x: Tensor, view: View) -> list[Piece]:
        dtype, row = str(x.dtype).removeprefix("torch."), self.state.words.stride(0)
        pieces = []
        for offset, piece in pieces_of(view):
            launch = plan(piece, x.data_ptr() + offset * x.itemsize, x.itemsize, row)
            measure = self._engine.measure_kernel(dtype, self._thresholds.mode, launch.layout)
            pieces.append((offset, launch, measure, self._engine.fold_kernel(dtype)))
        return pieces

    def _launch(self, x: Tensor) -> None:
        replayed = NOT
        if self._engine.capturing():
            hold(self)
            replayed = REPLAYED
        self._stream = self._engine.order(self._stream, self.state.words)
        last = len(self._pieces) - 1
        for i, (offset, launch, measure, fold) in enumerate(self._pieces):
            # Of the current stream: whoever gets this memory next on it comes after both launches.
            parts = torch.empty(launch.parts, dtype=torch.int64, device=x.device)
            memory = (self.state.words, parts, self._limits[x.dtype])
            told = COUNTED if replayed and i == last and self.state.memory is not None else replayed
            self._engine.launch(measure, fold, launch, x, offset, self.clock.words, told, *memory)

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
