"""The triton backend runs kernels that read each element once, two launches a tensor.

For GPUs that the cuda backend does not serve or cannot be used on. Kernels are compiled when they
are first needed and launched on torch's current stream; nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fmstats.backends import folding
from fmstats.backends.base import Backend, Meter
from fmstats.backends.graph_captures import refusal
from fmstats.backends.triton.engine import (
    Engine,
    GpuEngine,
    InterpreterEngine,
    interpreting,
    why_no_triton,
)
from fmstats.backends.triton.meter import TritonMeter
from fmstats.backends.triton.plan import GRAPH_LANES, likely_layouts
from fmstats.errors import FmstatsError
from fmstats.statistic.clock import Clock
from fmstats.statistic.fields import PART_FIELDS
from fmstats.statistic.measures import ALWAYS, Measures
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import Positions, View


class TritonBackend(Backend):
    """This backend measures tensors on GPUs; with TRITON_INTERPRET=1 on CPUs, slowly."""

    name = "triton"
    devices: ClassVar[tuple[str, ...]] = ("cuda", "xpu")
    in_graphs = True

    def __init__(self) -> None:
        self._engines: dict[torch.device, Engine | str] = {}  # or why it cannot be used

    def serves(self, device: torch.device) -> bool:
        return device.type in (("cpu",) if interpreting() else self.devices)

    def why_not(self, device: torch.device | None = None) -> str | None:
        why = why_no_triton()
        if why is not None:
            return why
        device = self._any_device() if device is None else _numbered(device)
        if device is None or not _is_there(device):
            return "no GPU was found; TRITON_INTERPRET=1 runs the kernels on the host, for tests"
        if device not in self._engines:
            self._engines[device] = self._try_to_open(device)
        found = self._engines[device]
        return found if isinstance(found, str) else None

    def describe(self) -> str:
        device = self._any_device()
        assert device is not None
        return self.engine(device).describe()

    def meter(self, state: State, thresholds: Thresholds, clock: Clock | None = None) -> Meter:
        return TritonMeter(self, self.engine(state.words.device), state, thresholds, clock)

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
        engine, name = self.engine(device), str(dtype).removeprefix("torch.")
        engine.fold_kernel(name, measures=measures)
        for layout in likely_layouts(dtype.itemsize):
            engine.measure_kernel(name, thresholds.mode, layout, measures)

    def captures(self, device: torch.device) -> bool:
        return self.engine(device).capturing()

    def prepare_fold(self, device: torch.device) -> None:
        self.engine(device).graph_fold_kernel()

    def fold(
        self,
        partials: Sequence[Tensor],
        states: Sequence[Tensor],
        clock: Tensor,
        positions: Sequence[int],
        modes: Sequence[int],
    ) -> None:
        layers = folding.layers_of(partials, states, clock, positions, modes)
        engine = self.engine(clock.device)
        for layer in layers:
            groups = layer.packing.groups(layer.mode)
            there = {name for group in groups for name in group}
            begins = {group[0] for group in groups}
            _, planes, channels = layer.partials.shape
            engine.launch_graph_fold(
                engine.graph_fold_kernel(),
                max(-(-channels // GRAPH_LANES), 1),
                [layer.partials, layer.memory, clock],
                *(channels, planes, layer.packing.bits),
                _bits(name in there for name in PART_FIELDS),
                _bits(name in begins for name in PART_FIELDS),
                layer.positions,
            )

    def engine(self, device: torch.device) -> Engine:
        """Return what runs the kernels for a device.

        Raises:
            FmstatsError: it cannot be used.
        """
        why = self.why_not(device)
        found = self._engines.get(_numbered(device))
        if not isinstance(found, Engine):
            raise FmstatsError(f"backend 'triton' cannot be used on {device}: {why}")
        return found

    def _any_device(self) -> torch.device | None:
        if interpreting():
            return torch.device("cpu")
        devices = (torch.device(kind, 0) for kind in self.devices)
        return next((device for device in devices if _is_there(device)), None)

    def _try_to_open(self, device: torch.device) -> Engine | str:
        if device.type == "cpu":
            return InterpreterEngine()
        try:
            if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
                # Not an answer, which would be kept.
                raise refusal("the triton backend begins to use a GPU")
            return GpuEngine(device)
        except FmstatsError:
            raise
        except Exception as error:  # of Triton, ptxas, the driver: each has its own
            return f"Triton cannot compile or load a kernel here: {error}"


def _numbered(device: torch.device) -> torch.device:
    return device if device.type == "cpu" else torch.device(device.type, device.index or 0)


def _is_there(device: torch.device) -> bool:
    return device.type == "cpu" or bool(torch.get_device_module(device).is_available())


def _bits(flags: Iterable[bool]) -> int:
    return sum(1 << i for i, flag in enumerate(flags) if flag)
