"""The meter of the cuda backend measures one layer's tensors on a GPU.

A layer that runs on another stream than last time first waits, on the device, for the work of that
stream. Replays of a graph are not seen: order them with eager runs of the same layers yourself, as
the layers' own buffers need.
"""

from __future__ import annotations

import math
import struct
import threading
from typing import Any

import torch
from torch import Tensor

from fmstats.backends.base import Backend, Meter
from fmstats.backends.cuda.asked import Asked
from fmstats.backends.cuda.device import Device
from fmstats.backends.cuda.runtime import Runtime
from fmstats.backends.graph_captures import hold, refusal
from fmstats.statistic.clock import Clock
from fmstats.statistic.fields import MODES
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import Positions, View

Limits = tuple[float, float, float]


class CudaMeter(Meter):
    """The hot path of this meter is one native call that launches one kernel."""

    def __init__(
        self,
        backend: Backend,
        runtime: Runtime,
        device: Device,
        native: Any,
        state: State,
        thresholds: Thresholds,
        clock: Clock | None,
    ) -> None:
        super().__init__(backend, state, thresholds, clock)
        self._runtime, self._device, self._native = runtime, device, native
        self._index = state.words.device.index or 0
        self._refuse_capture("a layer is measured for the first time")
        self._mode, self._asked = MODES.index(thresholds.mode), Asked.of(state.measures)
        self._lock = threading.Lock()
        self._stream: int | None = None  # of the last launch that was not captured
        self._captured: tuple[int, int] | None = None  # capture and stream of the last that was
        self._limits_as: dict[torch.dtype, tuple[Limits, tuple[int, ...]]] = {}
        self.plan: Any = self._make_plan(native.CudaPlan)
        self.try_update = self.plan.try_update  # no Python between the hook and the driver
        self._group_plan: Any = None

    def _make_plan(self, kind: Any) -> Any:
        return kind(
            tensor_type=Tensor,
            # From torch 2.10; without it every tensor goes through update().
            exchange_api=getattr(Tensor, "__dlpack_c_exchange_api__", None),
            device_type=self._runtime.dlpack_type,
            device_id=self._index,
        )

    def update(self, x: Tensor, view: View) -> None:
        if view.channels == 0 or view.positions == 0:
            return
        dtype = self._dtype(x)
        launch = self._native.CudaLaunch(
            dtype,
            x.data_ptr(),
            view.channels,
            view.channel_stride,
            view.dims,
            self._device.gpu.multiprocessors,
            self._asked,
        )
        kernel = self._kernel(launch, dtype)
        with self._lock:
            self.plan.update(
                launch=launch,
                shape=tuple(x.shape),
                strides=x.stride(),
                kernel=kernel,
                **self._prepare(launch, x.dtype),
            )

    def update_groups(self, x: Tensor, view: View, positions: Positions) -> None:
        """Update the state, which has the channels of each group, by one launch as well."""
        if view.channels == 0 or view.positions == 0:
            return
        dtype = self._dtype(x)
        launch = self._native.GroupedLaunch(
            dtype=dtype,
            data=x.data_ptr(),
            channels=view.channels,
            channel_stride=view.channel_stride,
            dims=view.dims,
            numbers=positions.numbers.data_ptr(),
            number_strides=positions.strides,
            groups=positions.groups,
            multiprocessors=self._device.gpu.multiprocessors,
            asked=self._asked,
        )
        kernel = self._kernel(launch, dtype)
        with self._lock:
            if self._group_plan is None:
                self._group_plan = self._make_plan(self._native.CudaGroupPlan)
                self.try_groups = self._group_plan.try_update
            self._group_plan.update(
                launch=launch,
                shape=tuple(x.shape),
                strides=x.stride(),
                kernel=kernel,
                **self._prepare(launch, x.dtype),
            )

    def _dtype(self, x: Tensor) -> int:
        """Return the native module's number of the element type."""
        return int(self._native.DTYPES.index(str(x.dtype).removeprefix("torch.")))

    def _kernel(self, launch: Any, dtype: int) -> int:
        """Return the handle of the kernel that a launch runs."""
        key = (str(launch.kernel), dtype, self._mode, self._asked)
        if key not in self._device.kernels:
            self._refuse_capture(f"kernel {launch.kernel} is compiled and loaded")
        return self._device.kernel(*key)

    def _prepare(self, launch: Any, dtype: torch.dtype) -> dict[str, Any]:
        """Order the current stream; return what a launch needs beside the tensor and the kernel."""
        self.plan.forget()  # another thread must not launch between ordering and launching
        if self._group_plan is not None:
            self._group_plan.forget()
        stream, capture = self._order()
        memory = self.state.memory
        replays = 0 if capture is None or memory is None else memory[-1:].data_ptr()
        parts, tickets = self._device.workspaces.room_for(
            stream, capture, launch.parts_words, launch.tickets
        )
        thresholds, limits = self._limits(dtype)
        return {
            "thresholds": thresholds,
            "limits": limits,
            "state": self.state.words.data_ptr(),
            "row": self.state.words.stride(0),
            "requested": self._requested(),
            "clock": self.clock.words.data_ptr(),
            "replays": replays,
            "parts": parts.data_ptr(),
            "tickets": tickets.data_ptr(),
            "context": self._device.context,
            "stream": stream,
        }

    def _requested(self) -> tuple[int, int, int]:
        """Return where what is asked for goes: the addresses of csrc/requested.h, 0 for none."""
        state = self.state
        sum_abs, m3 = (
            state[field].data_ptr() if field in state.measures.places else 0
            for field in ("sum_abs", "m3")
        )
        return sum_abs, m3, 0 if state.bins is None else state.bins.data_ptr()

    def wait(self) -> None:
        self._runtime.wait(self._index)

    def _order(self) -> tuple[int, int | None]:
        """Have the current stream wait for the last launch; return it and its capture."""
        stream = self._runtime.stream(self._index)
        capture = self._runtime.capture(self._index)
        if capture is None:
            last, self._stream = self._stream, stream
        else:
            # Streams of one capture make a fork in its graph; another one ran nothing to wait for.
            before, self._captured = self._captured, (capture, stream)
            last = before[1] if before is not None and before[0] == capture else None
            hold(self)
        if last is not None and last != stream:
            self._runtime.follow(self._index, last, self.state.words)
        return stream, capture

    def _limits(self, dtype: torch.dtype) -> tuple[Limits, tuple[int, ...]]:
        """Return the thresholds for elements of a type, as numbers and as packs."""
        if dtype not in self._limits_as:
            compared = torch.float16 if dtype.itemsize == 1 else dtype
            limits = self._thresholds.compared_as(compared)
            packs = tuple(_pack_bits(limit, compared) for limit in limits)
            self._limits_as[dtype] = (limits, packs)
        return self._limits_as[dtype]

    def _refuse_capture(self, what: str) -> None:
        if self._runtime.capture(self._index) is not None:
            raise refusal(what)


def _pack_bits(limit: float, dtype: torch.dtype) -> int:
    """Return a number as the packs of csrc/cuda/packs.cuh hold it, as a 64-bit integer."""
    if dtype == torch.float64:
        return int(struct.unpack("<q", struct.pack("<d", limit))[0])
    if dtype == torch.float32:
        return _float32_bits(limit)
    if math.isnan(limit):
        return 0x7FFF7FFF
    if dtype == torch.bfloat16:
        return (_float32_bits(limit) >> 16) * 0x10001
    half = struct.unpack("<H", struct.pack("<e", limit))[0]
    return int(half) * 0x10001


def _float32_bits(x: float) -> int:
    """Return the bits of a float32, of subnormal ones also where the processor flushes them."""
    if abs(x) < 2.0**-126:
        return (int(math.copysign(1, x) < 0) << 31) | int(abs(x) * 2.0**149)
    return int(struct.unpack("<I", struct.pack("<f", x))[0])
