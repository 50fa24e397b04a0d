"""The cuda backend on a machine without a GPU: CPU tensors, a stub of the driver, and PTX that the
interpreter runs.

Everything from the hook to the driver is the real code. The stub (stub_driver/libcuda.c) is loaded
before anything asks for libcuda.so.1, and so is what everything finds under that name.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from ptx import Memory, Module, PtxError, Report, launch
from torch import Tensor

from fmstats.backends.base import Backend
from fmstats.backends.cuda import nvrtc
from fmstats.backends.cuda.backend import CudaBackend
from fmstats.backends.cuda.runtime import Gpu, Runtime
from fmstats.backends.native import load_native
from fmstats.errors import FmstatsError
from fmstats.statistic.bins import Bins
from fmstats.statistic.clock import WORDS, Clock
from fmstats.statistic.fields import FIELDS, PART_FIELDS
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

ARCHS = ("80", "90", "100", "120")
LAUNCH_FAILED = 719  # CUDA_ERROR_LAUNCH_FAILED
MAX_DIMS = 64
POWER_SUMS = 6  # words of a part with power sums beside its fields: csrc/requested.h
SIZES = (4, 8, 2, 2, 1, 1)  # of elements, by dtype
PLAIN = Thresholds()
ALL = Thresholds(zero_tol=0.1, low=-0.5, high=1.0)


def why_not() -> str | None:
    """What this machine lacks for the tests that need neither GPU nor driver, if anything."""
    if load_native() is None:
        return "the native module is not built"
    if torch.cuda.is_available():
        return "a CUDA driver is present, whose place a stub cannot take"
    try:
        nvrtc.version()
    except FmstatsError as error:
        return str(error)
    return None


needs_nvrtc = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


class Divisor(ctypes.Structure):
    """csrc/cuda/args.h."""

    _fields_: ClassVar[list[Any]] = [("multiplier", ctypes.c_uint), ("shift", ctypes.c_int)]


class CudaArgs(ctypes.Structure):
    """csrc/cuda/args.h, with csrc/view.h's View in it: what a launch hands to the kernel."""

    _fields_: ClassVar[list[Any]] = [
        ("data", ctypes.c_uint64),
        ("dtype", ctypes.c_int),
        ("channels", ctypes.c_int64),
        ("channel_stride", ctypes.c_int64),
        ("dim_count", ctypes.c_int),
        ("size", ctypes.c_int64 * MAX_DIMS),
        ("stride", ctypes.c_int64 * MAX_DIMS),
        ("thresholds", ctypes.c_double * 3),
        ("limits", ctypes.c_int64 * 3),
        ("state", ctypes.c_uint64),
        ("row", ctypes.c_int64),
        ("clock", ctypes.c_uint64),
        ("replays", ctypes.c_uint64),
        ("parts", ctypes.c_uint64),
        ("part_row", ctypes.c_int64),
        ("tickets", ctypes.c_uint64),
        ("positions", ctypes.c_int64),
        ("narrow", ctypes.c_int),
        ("by", Divisor * MAX_DIMS),
        ("splits", ctypes.c_uint),
        ("groups", ctypes.c_uint),
        ("slots", ctypes.c_int64),
        ("per_split", ctypes.c_int64),
        ("in_runs", ctypes.c_int),
        ("run_places", ctypes.c_int),
        ("step_places", ctypes.c_int),
        ("run_stride_bytes", ctypes.c_int64),
        ("place_bytes", ctypes.c_int64),
        ("step_bytes", ctypes.c_int64),
        ("wrap_bytes", ctypes.c_int64),
        ("by_run_places", Divisor),
        ("run_bytes", ctypes.c_int),
        ("edge_runs", ctypes.c_int64),
        ("lanes", ctypes.c_int),
        ("sum_abs", ctypes.c_uint64),
        ("m3", ctypes.c_uint64),
        ("bins", ctypes.c_uint64),
        ("per_channel", ctypes.c_int),
        ("resolution", ctypes.c_int),
    ]

    plain_words: ClassVar[int] = len(PART_FIELDS)  # of a part, without power sums
    histograms = property(lambda self: self.state_channels if self.per_channel else 1)
    state_channels = property(lambda self: self.channels)

    @property
    def part_words(self) -> int:
        return self.plain_words + (POWER_SUMS if self.sum_abs or self.m3 else 0)

    @property
    def state_rows(self) -> int:
        return len(FIELDS) + bool(self.sum_abs) + 2 * bool(self.m3)

    @property
    def extent(self) -> int:
        """Elements from the first to behind the last one of the view."""
        dims = range(self.dim_count)
        last = sum((self.size[d] - 1) * self.stride[d] for d in dims)
        return last + (self.channels - 1) * self.channel_stride + 1


class GroupedArgs(CudaArgs):
    """csrc/cuda/args.h, with the numbers of groups."""

    _fields_: ClassVar[list[Any]] = [
        ("numbers", ctypes.c_uint64),
        ("number_dims", ctypes.c_int),
        ("number_size", ctypes.c_int64 * MAX_DIMS),
        ("number_stride", ctypes.c_int64 * MAX_DIMS),
        ("number_by", Divisor * MAX_DIMS),
        ("quick", ctypes.c_int),
        ("of_vector", ctypes.c_int),
        ("position_groups", ctypes.c_int),
    ]
    plain_words = CudaArgs.plain_words + 1  # with the number of positions
    state_channels = property(lambda self: self.channels * self.position_groups)
    histograms = property(
        lambda self: self.state_channels if self.per_channel else self.position_groups
    )

    @property
    def number_extent(self) -> int:
        """Bytes from the first to behind the last number."""
        dims = range(self.number_dims)
        return sum((self.number_size[d] - 1) * self.number_stride[d] for d in dims) + 1


@dataclass
class Graph:
    """What was captured: launches that `replay` runs, on tensors as they were then.

    Attributes:
        tensors: a copy of the memory of each tensor that is read, by launches; change it, and the
            next replay reads that.
    """

    driver: StubDriver
    recorded: list[tuple[int, tuple[int, int], int, int, CudaArgs]] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)

    def record(self, code: int, grid: tuple[int, int], block: int, stream: int, args: Any) -> None:
        kept = type(args).from_buffer_copy(args)
        size = args.extent * SIZES[args.dtype] if getattr(args, "data", None) else 0
        room = torch.empty(size // 8 + 8, dtype=torch.int64)  # aligned as torch does
        if size:
            ctypes.memmove(room.data_ptr() + args.data % 16, args.data, size)
            kept.data = room.data_ptr() + args.data % 16
        self.tensors.append(room)
        self.recorded.append((code, grid, block, stream, kept))

    def replay(self) -> None:
        for code, grid, block, stream, args in self.recorded:
            self.driver.run(code, grid, block, stream, args)


@dataclass
class Launch:
    """A launch as the driver was asked for it, and what the interpreter says of it."""

    args: CudaArgs
    grid: tuple[int, int]
    block: int
    stream: int
    report: Report


@dataclass
class HostRuntime(Runtime):
    """CPU tensors as those of a GPU of a compute capability."""

    capability: tuple[int, int] = (9, 0)
    multiprocessors: int = 4
    current: int = 0
    capturing: int | None = None
    followed: list[tuple[int, int]] = field(default_factory=list)

    device_type = "cpu"
    dlpack_type = 1

    def why_not(self) -> str | None:
        return None

    def gpu(self, index: int) -> Gpu:
        return Gpu("no GPU", self.capability, self.multiprocessors)

    def stream(self, index: int) -> int:
        return self.current

    def capture(self, index: int) -> int | None:
        return self.capturing

    def follow(self, index: int, stream: int, memory: Tensor) -> None:
        self.followed.append((stream, self.current))

    def wait(self, index: int) -> None:
        pass


@lru_cache(maxsize=16)  # a kernel is some ten thousand objects
def parse(ptx: bytes) -> Module:
    return Module(ptx.decode())


class StubDriver:
    """The stub in this process, and how it runs what it is handed.

    Attributes:
        order: of blocks; blocks_at_once: how many run side by side.
        count_bytes: whether to count the loads of every byte of a tensor.
        change: called with the arguments of a launch before it runs.
        launches: what was run, in order; errors: what the interpreter would not run.
    """

    def __init__(self) -> None:
        self._library = _build_stub()
        self._library.stub_calls.restype = ctypes.c_char_p
        signature = ctypes.CFUNCTYPE(
            ctypes.c_int,
            *[ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint],
            *[ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)],
        )
        self._callback = signature(self._launch)
        self._library.stub_on_launch(self._callback)
        self.reset()

    def reset(self) -> None:
        self._library.stub_reset()
        self.order, self.seed = "forward", 0
        self.blocks_at_once: int | None = None
        self.count_bytes = False
        self.change: Callable[[CudaArgs], None] | None = None
        self.graph: Graph | None = None  # that is being captured
        self.launches: list[Launch] = []
        self.errors: list[PtxError] = []

    def calls(self) -> list[str]:
        return self._library.stub_calls().decode().split()

    def fail(self, call: str, result: int = LAUNCH_FAILED) -> None:
        self._library.stub_fail(call.encode(), result)

    def capture(self, active: bool) -> None:
        self._library.stub_capture(int(active))

    @contextmanager
    def capturing(self, runtime: HostRuntime) -> Iterator[Graph]:
        """Capture what is launched instead of running it."""
        self.graph = graph = Graph(self)
        runtime.capturing = id(graph)
        self.capture(True)
        try:
            yield graph
        finally:
            self.capture(False)
            runtime.capturing = self.graph = None

    def contexts(self) -> int:
        """How many are current, one above the other."""
        return int(self._library.stub_depth())

    def _launch(self, code: int, x: int, y: int, block: int, stream: int, arguments: Any) -> int:
        kind, _ = ARGUMENTS[self._parameter_of(code).size]
        args = kind.from_address(arguments[0])
        if self.change is not None:
            self.change(args)
        if self.graph is not None:
            self.graph.record(code, (x, y), block, stream or 0, args)
            return 0
        return self.run(code, (x, y), block, stream or 0, args)

    def _parameter_of(self, code: int) -> Any:
        (parameter,) = parse(ctypes.string_at(code)).kernels[nvrtc.ENTRY].params
        return parameter

    def run(self, code: int, grid: tuple[int, int], block: int, stream: int, args: Any) -> int:
        """Have the interpreter run a launch."""
        try:
            size = self._parameter_of(code).size
            _, memory_of = ARGUMENTS[size]
            counted = self.count_bytes and getattr(args, "data", True)
            report = launch(
                parse(ctypes.string_at(code)),
                nvrtc.ENTRY,
                grid=grid,
                block=block,
                arguments=[ctypes.string_at(ctypes.addressof(args), size)],
                memory=memory_of(args, grid),
                order=self.order,
                seed=self.seed,
                blocks_at_once=self.blocks_at_once,
                count_bytes_of=("x",) if counted else (),
            )
            copy = type(args).from_buffer_copy(args)
            self.launches.append(Launch(copy, grid, block, stream, report))
        except PtxError as error:  # ctypes would print and forget it
            self.errors.append(error)
            return LAUNCH_FAILED
        return 0


def memory_of(args: CudaArgs, grid: tuple[int, int]) -> Memory:
    """All that a launch may touch: of the tensor what its view spans, and no more."""
    memory = Memory()
    memory.map_address(args.clock, 8 * len(WORDS), "clock")
    if not args.data:  # of a pass that begins
        return memory
    memory.map_address(args.data, args.extent * SIZES[args.dtype], "x", read_only=True)
    if isinstance(args, GroupedArgs):
        memory.map_address(args.numbers, args.number_extent, "numbers", read_only=True)
    words = (args.state_rows - 1) * args.row + args.state_channels
    memory.map_address(args.state, 8 * words, "state")
    if args.bins:
        bins = args.histograms * Bins(resolution=args.resolution).words
        memory.map_address(args.bins, 8 * bins, "bins")
    if args.replays:
        memory.map_address(args.replays, 8, "replays")
    if args.splits > 1 or args.lanes:
        parts = args.splits + (args.groups if args.groups > 1 else 0)
        memory.map_address(args.parts, 8 * parts * args.part_words * args.part_row, "parts")
        tickets = grid[0] * (1 + args.groups) if args.lanes else grid[0]
        memory.map_address(args.tickets, 4 * tickets, "tickets")
    return memory


# What kernels are given, by its size, and what they may touch then.
ARGUMENTS: dict[int, tuple[Any, Callable[[Any, tuple[int, int]], Memory]]] = {
    ctypes.sizeof(kind): (kind, memory_of) for kind in (CudaArgs, GroupedArgs)
}


@cache
def _build_stub() -> ctypes.CDLL:
    source = Path(__file__).parent / "stub_driver" / "libcuda.c"
    library = Path(tempfile.mkdtemp()) / "libcuda.so.1"
    flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wl,-soname,libcuda.so.1"]
    subprocess.run(["cc", *flags, "-o", library, source, "-ldl"], check=True)
    return ctypes.CDLL(str(library))


def host_backend(arch: str = "90", **options: Any) -> CudaBackend:
    """A cuda backend for CPU tensors that compiles to PTX of an architecture."""
    return HostCudaBackend(HostRuntime(**options), arch)


class HostCudaBackend(CudaBackend):
    """The cuda backend with its target given, PTX, instead of that of the GPU present."""

    runtime: HostRuntime

    def __init__(self, runtime: HostRuntime, arch: str) -> None:
        super().__init__(runtime)
        self.arch = arch

    def target(self, gpu: Gpu) -> str:
        return f"compute_{self.arch}"


@cache
def the_stub() -> StubDriver:
    """The one stub of this process."""
    return StubDriver()


def some_clock() -> Clock:
    """A clock that shows another pass and step than any default."""
    clock = Clock()
    clock.set("first_pass", 7)
    clock.set("first_step", 40)
    return clock


def fold(
    backend: Backend,
    x: Tensor,
    channel_dim: int = 1,
    thresholds: Thresholds = PLAIN,
    state: State | None = None,
) -> State:
    """What a backend makes of a tensor in some pass, added to a state if one is given."""
    view, clock = view_of(x, channel_dim), some_clock()
    state = State.identity(view.channels) if state is None else state
    try:
        backend.accumulate(state, x, view, thresholds, clock)
    except RuntimeError as error:
        if backend.name == "cuda" and the_stub().errors:
            raise the_stub().errors[-1] from error  # the driver only knows that it failed
        raise
    assert clock.words.tolist()[:3] == [7, 40, int(not x.double().isfinite().all())]
    return state


def kernel_of(backend: CudaBackend, x: Tensor, channel_dim: int = 1) -> str:
    """The kernel that a tensor is given to."""
    assert backend.native is not None
    view = view_of(x, channel_dim)
    code = backend.native.DTYPES.index(str(x.dtype).removeprefix("torch."))
    launch = backend.native.CudaLaunch(
        *(code, x.data_ptr(), view.channels, view.channel_stride, view.dims, 4)
    )
    return str(launch.kernel)
