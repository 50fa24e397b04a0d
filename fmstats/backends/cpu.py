"""The cpu backend runs C++ kernels that read each element once (csrc/cpu).

One source compiled for several instruction sets; the best one that this processor has is picked
when the backend is made. Threads are torch's own.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from fmstats.backends.base import Backend, Meter
from fmstats.backends.native import load_native, requested_of, why_no_native
from fmstats.errors import FmstatsError
from fmstats.statistic.clock import Clock
from fmstats.statistic.fields import MODES
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import Positions, View


class CpuBackend(Backend):
    """This backend measures tensors on the CPU with the native module.

    Args:
        isa: an instruction set by name instead of the best one, for tests.

    Attributes:
        isas: the instruction sets usable here, best first.
    """

    name = "cpu"
    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    def __init__(self, isa: str | None = None) -> None:
        self._native = load_native()
        self.isas: list[str] = []
        if self._native is None:
            return
        isas = self._native.cpu_isas()
        self.isas = [name for name, _, usable in isas if usable]
        if isa is not None and isa not in self.isas:
            raise FmstatsError(
                f"instruction set {isa!r} is not usable on this processor; "
                f"usable here: {', '.join(self.isas)}"
            )
        names = [name for name, _, _ in isas]
        self.isa = isa or self.isas[0]
        self._isa = names.index(self.isa)
        self._bits = isas[self._isa][1]
        self._dtypes = {getattr(torch, d): i for i, d in enumerate(self._native.DTYPES)}

    def why_not(self, device: torch.device | None = None) -> str | None:
        return why_no_native()

    def describe(self) -> str:
        return f"{self.isa} ({self._bits}-bit vectors), {torch.get_num_threads()} threads"

    def meter(self, state: State, thresholds: Thresholds, clock: Clock | None = None) -> Meter:
        return CpuMeter(self, state, thresholds, clock)

    def plan(self, state: State, thresholds: Thresholds, clock: Clock) -> Any:
        """Make the native module's plan for tensors of one layer."""
        assert self._native is not None
        return self._native.CpuPlan(
            isa=self._isa,
            state=state.words.data_ptr(),
            row=state.words.stride(0),
            clock=clock.words.data_ptr(),
            requested=requested_of(state),
            float32_thresholds=thresholds.compared_as(torch.float32),
            float64_thresholds=thresholds.compared_as(torch.float64),
            mode=MODES.index(thresholds.mode),
            tensor_type=Tensor,
            # From torch 2.10; without it every tensor goes through update().
            exchange_api=getattr(Tensor, "__dlpack_c_exchange_api__", None),
        )

    def dtype_code(self, dtype: torch.dtype) -> int:
        """Return the native module's number of a dtype."""
        return self._dtypes[dtype]

    def accumulate(
        self,
        state: State,
        x: Tensor,
        view: View,
        thresholds: Thresholds,
        clock: Clock | None = None,
        positions: Positions | None = None,
    ) -> None:
        assert self._native is not None
        clock = Clock() if clock is None else clock
        compute = torch.float64 if x.dtype == torch.float64 else torch.float32
        self._native.cpu_accumulate(
            isa=self._isa,
            dtype=self._dtypes[x.dtype],
            data=x.data_ptr(),
            channels=view.channels,
            channel_stride=view.channel_stride,
            dims=view.dims,
            numbers=0 if positions is None else positions.numbers.data_ptr(),
            number_strides=() if positions is None else positions.strides,
            groups=1 if positions is None else positions.groups,
            state=state.words.data_ptr(),
            row=state.words.stride(0),
            clock=clock.words.data_ptr(),
            requested=requested_of(state),
            thresholds=thresholds.compared_as(compute),
            mode=MODES.index(thresholds.mode),
            threads=torch.get_num_threads(),
        )


class CpuMeter(Meter):
    """The hot path of this meter is one native call."""

    def __init__(
        self, backend: CpuBackend, state: State, thresholds: Thresholds, clock: Clock | None
    ) -> None:
        super().__init__(backend, state, thresholds, clock)
        self.plan: Any = backend.plan(state, thresholds, self.clock)
        self._dtype_code = backend.dtype_code
        self.try_update = self.plan.try_update  # no Python between the hook and the kernel
        self._make_plan = backend.plan
        self._group_plan: Any = None

    def update(self, x: Tensor, view: View) -> None:
        self.plan.update(
            self._dtype_code(x.dtype),
            x.data_ptr(),
            tuple(x.shape),
            x.stride(),
            view.channels,
            view.channel_stride,
            view.dims,
            torch.get_num_threads(),
        )

    def update_groups(self, x: Tensor, view: View, positions: Positions) -> None:
        if self._group_plan is None:
            self._group_plan = self._make_plan(self.state, self._thresholds, self.clock)
            self.try_groups = self._group_plan.try_update_groups
        self._group_plan.update_groups(
            self._dtype_code(x.dtype),
            x.data_ptr(),
            tuple(x.shape),
            x.stride(),
            view.channels,
            view.channel_stride,
            view.dims,
            torch.get_num_threads(),
            positions.numbers.data_ptr(),
            positions.strides,
            positions.groups,
        )
