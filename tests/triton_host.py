"""The triton backend on a machine without a GPU: CPU tensors, and PTX that the interpreter runs.

All is the real code but the launch: Triton's PTX is handed to the interpreter of tests/ptx.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pytest
import torch
from ptx import Memory, Module, Report, launch
from torch import Tensor

from fmstats.backends.triton.backend import TritonBackend
from fmstats.backends.triton.engine import Engine, interpreting, why_no_triton
from fmstats.backends.triton.plan import MOST_DIMS, Launch, Layout
from fmstats.backends.triton.requested import Requested
from fmstats.statistic.measures import ALWAYS, Measures

ARCHS = ("80", "90", "100", "120")


def why_not() -> str | None:
    """What this machine lacks to compile Triton kernels and run their PTX, if anything."""
    if interpreting():
        return "TRITON_INTERPRET=1: nothing is compiled"
    return why_no_triton()


needs_triton = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@lru_cache(maxsize=16)
def parse(ptx: str) -> Module:
    return Module(ptx)


def target_of(name: str) -> Any:
    """A GPU as Triton names it: "80" for sm_80, "gfx942" for an AMD GPU."""
    from triton.backends.compiler import GPUTarget

    if name.startswith("gfx"):
        return GPUTarget("hip", name, 64 if name.startswith("gfx9") else 32)
    return GPUTarget("cuda", int(name), 32)


@dataclass
class Run:
    """One tensor: how it was planned, and what the interpreter says of both launches."""

    launch: Launch
    measure: Report
    fold: Report


@dataclass
class PtxEngine(Engine):
    """Compiles for an NVIDIA GPU of an architecture and interprets the PTX on CPU tensors.

    Attributes:
        block_order: of programs; at_once: how many run side by side.
        count_bytes: whether to count the loads of every byte of a tensor.
        runs: what was launched; folds: of partials.
    """

    arch: str = "90"
    block_order: str = "forward"
    seed: int = 0
    at_once: int | None = None
    count_bytes: bool = False
    runs: list[Run] = field(default_factory=list)
    folds: list[Report] = field(default_factory=list)
    kernels: dict[object, Any] = field(default_factory=dict)

    def describe(self) -> str:
        return f"an interpreter of sm_{self.arch}"

    def measure_kernel(
        self, dtype: str, mode: str, layout: Layout, measures: Measures = ALWAYS
    ) -> Any:
        from fmstats.backends.triton import compiler

        key = (dtype, mode, layout, measures)
        if key not in self.kernels:
            target = target_of(self.arch)
            self.kernels[key] = compiler.compile_measure(dtype, mode, layout, target, measures)
        return self.kernels[key]

    def fold_kernel(self, dtype: str, grouped: bool = False, measures: Measures = ALWAYS) -> Any:
        from fmstats.backends.triton import compiler

        key = (dtype, grouped, measures)
        if key not in self.kernels:
            target = target_of(self.arch)
            self.kernels[key] = compiler.compile_fold(dtype, target, grouped, measures)
        return self.kernels[key]

    def graph_fold_kernel(self) -> Any:
        from fmstats.backends.triton import compiler

        if "graph_fold" not in self.kernels:
            self.kernels["graph_fold"] = compiler.compile_graph_fold(target_of(self.arch))
        return self.kernels["graph_fold"]

    def launch_graph_fold(
        self, kernel: Any, programs: int, tensors: Sequence[Tensor], *sizes: int
    ) -> None:
        *fields, state, clock = tensors
        positions = sizes[-1]
        mapped = Memory()
        for address, length in {(t.data_ptr(), t.nbytes) for t in fields if positions}:
            mapped.map_address(address, length, "x", read_only=True)
        mapped.map_address(state.data_ptr(), state.nbytes, "state")
        mapped.map_address(clock.data_ptr(), clock.nbytes, "clock")
        pointers = [tensor.data_ptr() for tensor in tensors]
        self.folds.append(self._run(kernel, programs, mapped, [*pointers, *sizes]))

    def launch(
        self,
        measure: Any,
        fold: Any,
        launch: Launch,
        x: Tensor,
        offset: int,
        clock: Tensor,
        replayed: int,
        *memory: Tensor,
        numbers: tuple[Tensor, int] | None = None,
        requested: Requested | None = None,
    ) -> None:
        address = x.data_ptr() + offset * x.itemsize
        state, parts, _ = memory
        mapped = Memory()
        mapped.map_address(address, extent(launch) * x.itemsize, "x", read_only=True)
        row, channels = state.stride(0), state.shape[1]
        mapped.map_address(state.data_ptr(), 8 * ((state.shape[0] - 1) * row + channels), "state")
        mapped.map_address(parts.data_ptr(), parts.numel() * 8, "parts")
        mapped.map_address(memory[2].data_ptr(), 24, "thresholds", read_only=True)
        mapped.map_address(clock.data_ptr(), 8 * clock.numel(), "clock")
        pointers = [address, *(m.data_ptr() for m in (*memory, clock)), replayed]
        of_measure, of_fold = [*launch.measure], [*launch.fold]
        if numbers is not None:
            first = numbers[0].data_ptr() + numbers[1]
            mapped.map_address(first, number_extent(launch), "numbers", read_only=True)
            of_measure += [first, *launch.measure_numbers]
            of_fold += [first, *launch.fold_numbers]
        if requested is not None:
            for name, beside in (("powers", requested.powers), ("bins", requested.bins)):
                if beside is not None:
                    mapped.map_address(beside.data_ptr(), beside.nbytes, name)
            if requested.end:  # the number of tensors that graphs measured
                mapped.map_address(state.data_ptr() + 8 * requested.end, 8, "replayed")
            more, more_fold = requested.addresses()
            of_measure, of_fold = [*of_measure, *more], [*of_fold, *more_fold]
        self.runs.append(
            Run(
                launch,
                self._run(measure, launch.programs, mapped, [*pointers, *of_measure]),
                self._run(fold, launch.channels, mapped, [*pointers, *of_fold]),
            )
        )

    def _run(self, kernel: Any, programs: int, memory: Memory, arguments: list[int]) -> Report:
        module = parse(kernel.asm["ptx"])
        entry = module.kernels[kernel.metadata.name]
        unused = len(entry.params) - len(arguments)  # Triton's own scratch memory
        return launch(
            module,
            kernel.metadata.name,
            grid=programs,
            block=kernel.metadata.num_warps * 32,
            arguments=[*arguments, *[0] * unused],
            memory=memory,
            shared_bytes=kernel.metadata.shared,
            order=self.block_order,
            seed=self.seed,
            blocks_at_once=self.at_once,
            count_bytes_of=("x",) if self.count_bytes else (),
        )


def extent(launch: Launch) -> int:
    """Elements from the first to behind the last one of what a launch reads."""
    _, of_state, channel_stride, positions, _, *dims = launch.fold
    groups = launch.fold_numbers[0] if launch.layout.grouped else 1
    return _last(positions, dims) + (of_state // groups - 1) * channel_stride + 1


def number_extent(launch: Launch) -> int:
    """Bytes from the first to behind the last one of the numbers that a launch reads."""
    return _last(launch.fold[3], launch.fold_numbers[1:]) + 1


def _last(positions: int, dims: Sequence[int]) -> int:
    """How far the last position lies from the first, by sizes but the outermost, and strides."""
    sizes, strides = dims[: MOST_DIMS - 1], dims[MOST_DIMS - 1 :]
    outer = positions
    for size in sizes:
        outer //= size
    return sum((n - 1) * s for n, s in zip([outer, *sizes], strides, strict=True))


class PtxBackend(TritonBackend):
    """The triton backend with its engine given."""

    def __init__(self, engine: PtxEngine) -> None:
        super().__init__()
        self.ptx = engine

    def serves(self, device: torch.device) -> bool:
        return device.type == "cpu"

    def why_not(self, device: torch.device | None = None) -> str | None:
        return None

    def engine(self, device: torch.device) -> Engine:
        return self.ptx


def host_backend(arch: str = "90", **options: Any) -> PtxBackend:
    """A triton backend for CPU tensors, compiled for an architecture."""
    return PtxBackend(PtxEngine(arch, **options))
