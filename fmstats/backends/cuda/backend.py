"""The cuda backend runs kernels that read each element once (csrc/cuda), a launch a tensor.

Kernels are compiled for the GPU present when they are first needed, and launched on torch's
current stream. Nothing waits for the device: not the hook, not a change of stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fmstats.backends import folding
from fmstats.backends.base import Backend
from fmstats.backends.cuda import driver, nvrtc
from fmstats.backends.cuda.asked import Asked
from fmstats.backends.cuda.device import Device
from fmstats.backends.cuda.meter import CudaMeter
from fmstats.backends.cuda.runtime import Gpu, Runtime
from fmstats.backends.cuda.workspace import Workspaces
from fmstats.backends.graph_captures import refusal
from fmstats.backends.native import load_native, why_no_native
from fmstats.errors import FmstatsError
from fmstats.statistic.clock import Clock
from fmstats.statistic.fields import MODES
from fmstats.statistic.measures import ALWAYS, Measures
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import Positions, View


class CudaBackend(Backend):
    """This backend measures tensors on NVIDIA GPUs with kernels compiled by NVRTC.

    Args:
        runtime: where GPUs and streams come from.
    """

    name = "cuda"
    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    in_graphs = True

    def __init__(self, runtime: Runtime | None = None) -> None:
        self.runtime = runtime or Runtime()
        self.native = load_native()
        self._devices: dict[int, Device | str] = {}  # or why it cannot be used

    def serves(self, device: torch.device) -> bool:
        return device.type == self.runtime.device_type

    def why_not(self, device: torch.device | None = None) -> str | None:
        why = why_no_native() or self.runtime.why_not()
        if why is not None:
            return why
        index = 0 if device is None else device.index or 0
        if index not in self._devices:
            self._devices[index] = self._try_to_open(index)
        found = self._devices[index]
        return found if isinstance(found, str) else None

    def describe(self) -> str:
        device = self.device(torch.device(self.runtime.device_type, 0))
        major, minor = nvrtc.version()
        return f"{device.gpu.name} ({device.target}), NVRTC {major}.{minor}"

    def meter(self, state: State, thresholds: Thresholds, clock: Clock | None = None) -> CudaMeter:
        device = self.device(state.words.device)
        return CudaMeter(self, self.runtime, device, self.native, state, thresholds, clock)

    def accumulate(
        self,
        state: State,
        x: Tensor,
        view: View,
        thresholds: Thresholds,
        clock: Clock | None = None,
        positions: Positions | None = None,
    ) -> None:
        meter = self.meter(state, thresholds, clock)
        if positions is None:
            meter.update(x, view)
        else:
            meter.update_groups(x, view, positions)

    def warm_up(
        self,
        device: torch.device,
        dtype: torch.dtype,
        thresholds: Thresholds,
        measures: Measures = ALWAYS,
    ) -> None:
        assert self.native is not None
        code = self.native.DTYPES.index(str(dtype).removeprefix("torch."))
        mode, asked = MODES.index(thresholds.mode), Asked.of(measures)
        for kernel in nvrtc.LIKELY:
            self.device(device).kernel(kernel, code, mode, asked)

    def captures(self, device: torch.device) -> bool:
        return self.runtime.capture(device.index or 0) is not None

    def begin_pass(self, clock: Clock) -> None:
        device = self.device(clock.words.device)
        self.native.cuda_begin_pass(  # type: ignore[union-attr]
            clock=clock.words.data_ptr(),
            kernel=device.kernel(nvrtc.BEGIN_PASS, 0, nvrtc.PLAIN),
            context=device.context,
            stream=self.runtime.stream(clock.words.device.index or 0),
        )

    def prepare_fold(self, device: torch.device) -> None:
        index = device.index or 0
        opened = self.device(device)
        api = getattr(Tensor, "__dlpack_c_exchange_api__", None)  # from torch 2.10
        if api is None or opened.fold is not None:
            return
        if self.runtime.capture(index) is not None:
            raise refusal("the kernel that folds partials is compiled and loaded")
        assert self.native is not None
        opened.fold = self.native.CudaFold(
            tensor_type=Tensor,
            exchange_api=api,
            device_type=self.runtime.dlpack_type,
            device_id=index,
            kernel=opened.kernel(nvrtc.FOLD, 0, nvrtc.PLAIN),
            context=opened.context,
        )

    def fold(
        self,
        partials: Sequence[Tensor],
        states: Sequence[Tensor],
        clock: Tensor,
        positions: Sequence[int],
        modes: Sequence[int],
    ) -> None:
        index = clock.device.index or 0
        device = self._devices.get(index)
        if not isinstance(device, Device) or device.fold is None:
            self.prepare_fold(clock.device)
            device = self.device(clock.device)
        if device.fold is None:
            super().fold(partials, states, clock, positions, modes)
            return
        stream = self.runtime.stream(index)
        try:
            device.fold.run(partials, states, clock, positions, modes, stream)
        except ValueError:  # nothing was launched
            folding.check(partials, states, clock, positions, modes)
            raise

    def device(self, device: torch.device) -> Device:
        """Return the GPU of a device.

        Raises:
            FmstatsError: it cannot be used.
        """
        why = self.why_not(device)
        found = self._devices.get(device.index or 0)
        if not isinstance(found, Device):
            raise FmstatsError(f"backend 'cuda' cannot be used on {device}: {why}")
        return found

    def target(self, gpu: Gpu) -> str:
        """Return what kernels are compiled to for a GPU; see `nvrtc.compile_kernel`."""
        return nvrtc.target_for(gpu.capability)

    def _try_to_open(self, index: int) -> Device | str:
        try:
            if self.runtime.capture(index) is None:
                return self._open(index)
        except (FmstatsError, RuntimeError) as error:  # the native module's is the latter
            return str(error)
        # Not an answer, which would be kept, and "auto" must not settle for another backend.
        raise refusal("the cuda backend begins to use a GPU")

    def _open(self, index: int) -> Device:
        gpu = self.runtime.gpu(index)
        assert self.native is not None
        self.native.cuda_check_driver()
        where = torch.device(self.runtime.device_type, index)
        context = driver.open_context(index)
        device = Device(gpu, self.target(gpu), context, Workspaces(where))
        # What compiles and loads once will do so again; the second is launched in captures.
        for kernel in ("rows", nvrtc.BEGIN_PASS):
            device.kernel(kernel, 0, nvrtc.PLAIN)
        return device
