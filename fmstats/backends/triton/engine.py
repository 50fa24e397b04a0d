"""An engine runs the kernels: a GPU, or Triton's interpreter on the host."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from fmstats.backends.graph_captures import refusal
from fmstats.backends.triton.plan import Launch, Layout
from fmstats.backends.triton.requested import Requested
from fmstats.statistic.measures import ALWAYS, Measures

OLDEST = (3, 2)  # what torch 2.6 ships
_GRAPH_FOLD = "graph_fold"  # the key of that kernel


def why_no_triton() -> str | None:
    """Tell why the package cannot be used, or None if it can; it is not imported."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed: pip install triton"
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:  # of a vendor's own build
        return None
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        return f"triton {version} is older than {'.'.join(map(str, OLDEST))}"
    return None


def interpreting() -> bool:
    """Tell whether Triton was asked to run kernels on the host, by TRITON_INTERPRET=1."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on")


class Engine:
    """An engine runs the kernels.

    Attributes:
        compiled: how many kernels were made so far.
    """

    compiled = 0

    def measure_kernel(
        self, dtype: str, mode: str, layout: Layout, measures: Measures = ALWAYS
    ) -> Any:
        """Return the kernel `measure` for such tensors."""
        raise NotImplementedError

    def fold_kernel(self, dtype: str, grouped: bool = False, measures: Measures = ALWAYS) -> Any:
        """The kernel `fold` for such tensors, whose positions may be in groups."""
        raise NotImplementedError

    def graph_fold_kernel(self) -> Any:
        """The kernel `graph_fold`."""
        raise NotImplementedError

    def launch_graph_fold(
        self, kernel: Any, programs: int, tensors: Sequence[Tensor], *sizes: int
    ) -> None:
        """Merge the partials of a layer into its state; arguments as the kernel has them."""
        raise NotImplementedError

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
        """Update with what lies `offset` elements from the first of `x`: both launches.

        `clock`: its words; `replayed`: one of `REPLAYS`; `memory`: the state's words, parts and
        thresholds; `numbers`: of the groups, and how far from the first of them to begin;
        `requested`: what is given beside; None: nothing more is requested.
        """
        raise NotImplementedError

    def describe(self) -> str:
        """Tell people what it runs on."""
        raise NotImplementedError

    def capturing(self) -> bool:
        """Tell whether the current stream takes part in the capture of a graph."""
        return False

    def order(self, last: Any, memory: Tensor) -> Any:
        """Have the current stream wait for the one that `last` stands for; return it."""
        return None

    def wait(self) -> None:
        """Return when all that was launched is done."""


class GpuEngine(Engine):
    """This engine launches kernels on the current stream of a GPU of torch's."""

    def __init__(self, device: torch.device) -> None:
        from fmstats.backends.triton import compiler

        self._compiler, self._driver = compiler, compiler.driver.active
        self._torch = torch.get_device_module(device)
        self._index = self._torch.current_device() if device.index is None else device.index
        self._kernels: dict[object, Any] = {}
        with self._here():
            self._target = self._driver.get_current_target()
        self.fold_kernel("float32")  # what compiles and loads once will do so again

    def describe(self) -> str:
        name = self._torch.get_device_name(self._index)
        target = f"{self._target.backend}:{self._target.arch}"
        return f"{name} ({target}), Triton {importlib.metadata.version('triton')}"

    def measure_kernel(
        self, dtype: str, mode: str, layout: Layout, measures: Measures = ALWAYS
    ) -> Any:
        key = (dtype, mode, layout, measures)
        if key not in self._kernels:
            made = self._compiler.compile_measure(dtype, mode, layout, self._target, measures)
            self._make(key, made)
        return self._kernels[key]

    def fold_kernel(self, dtype: str, grouped: bool = False, measures: Measures = ALWAYS) -> Any:
        key = (dtype, grouped, measures)
        if key not in self._kernels:
            self._make(key, self._compiler.compile_fold(dtype, self._target, grouped, measures))
        return self._kernels[key]

    def graph_fold_kernel(self) -> Any:
        if _GRAPH_FOLD not in self._kernels:
            if self.capturing():
                raise refusal("the kernel that folds partials is compiled and loaded")
            self._make(_GRAPH_FOLD, self._compiler.compile_graph_fold(self._target))
        return self._kernels[_GRAPH_FOLD]

    def launch_graph_fold(
        self, kernel: Any, programs: int, tensors: Sequence[Tensor], *sizes: int
    ) -> None:
        pointers = [tensor.data_ptr() for tensor in tensors]
        with self._here():
            stream = self._driver.get_current_stream(self._index)
            self._compiler.launch(kernel, programs, stream, *pointers, *sizes)

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
        begin = x.data_ptr() + offset * x.itemsize
        pointers = [begin, *(m.data_ptr() for m in (*memory, clock))]
        with self._here():
            stream = self._driver.get_current_stream(self._index)
            run = self._compiler.launch
            of_measure, of_fold = launch.measure, launch.fold
            if numbers is not None:
                first = numbers[0].data_ptr() + numbers[1]  # a byte each
                of_measure = (*of_measure, first, *launch.measure_numbers)
                of_fold = (*of_fold, first, *launch.fold_numbers)
            if requested is not None:
                beside, beside_fold = requested.addresses()
                of_measure, of_fold = (*of_measure, *beside), (*of_fold, *beside_fold)
            run(measure, launch.programs, stream, *pointers, replayed, *of_measure)
            run(fold, launch.channels, stream, *pointers, replayed, *of_fold)

    def capturing(self) -> bool:
        asked = getattr(self._torch, "is_current_stream_capturing", None)  # XPU has none
        return asked is not None and bool(asked())

    def order(self, last: Any, memory: Tensor) -> Any:
        stream = self._torch.current_stream(self._index)
        if last is not None and last != stream and self._can_follow(last):
            stream.wait_stream(last)
            memory.record_stream(stream)
        return stream

    def wait(self) -> None:
        self._torch.synchronize(self._index)

    def _can_follow(self, last: Any) -> bool:
        # What a capture waits for must be in it, and what is captured has not run.
        with self._torch.stream(last):
            there = self.capturing()
        return there == self.capturing()

    def _here(self) -> AbstractContextManager[Any]:
        if self._torch.current_device() == self._index:
            return nullcontext()
        context: AbstractContextManager[Any] = self._torch.device(self._index)
        return context

    def _make(self, key: object, kernel: Any) -> None:
        with self._here():
            kernel.run  # noqa: B018  # loads it now: the first launch may be in a capture
        self.compiled += 1
        self._kernels[key] = kernel


class InterpreterEngine(Engine):
    """This engine runs the kernels' Python in Triton's interpreter, on CPU tensors."""

    def __init__(self) -> None:
        from fmstats.backends.triton import compiler

        self._compiler = compiler

    def describe(self) -> str:
        return "Triton's interpreter (TRITON_INTERPRET=1), on the host"

    def measure_kernel(
        self, dtype: str, mode: str, layout: Layout, measures: Measures = ALWAYS
    ) -> Any:
        return self._compiler.measure_constants(dtype, mode, layout, measures)

    def fold_kernel(self, dtype: str, grouped: bool = False, measures: Measures = ALWAYS) -> Any:
        return self._compiler.fold_constants(dtype, grouped, measures)

    def graph_fold_kernel(self) -> Any:
        return self._compiler.graph_fold_constants()

    def launch_graph_fold(
        self, kernel: Any, programs: int, tensors: Sequence[Tensor], *sizes: int
    ) -> None:
        self._compiler.graph_fold[(programs,)](*tensors, *sizes, **kernel)

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
        first = x.detach().as_strided((1,), (1,), x.storage_offset() + offset)
        bits = self._compiler.BITS.get(x.dtype)
        first = first if bits is None else first.view(bits)
        pointers = (first, *memory, clock)
        programs, channels = (launch.programs,), (launch.channels,)
        of_measure: tuple[object, ...] = launch.measure
        of_fold: tuple[object, ...] = launch.fold
        if numbers is not None:
            all_, begin = numbers
            number = all_.view(torch.uint8).as_strided((1,), (1,), all_.storage_offset() + begin)
            of_measure = (*of_measure, number, *launch.measure_numbers)
            of_fold = (*of_fold, number, *launch.fold_numbers)
        if requested is not None:
            beside, beside_fold = requested.arguments()
            measure, fold = {**measure, **beside}, {**fold, **beside_fold}
        self._compiler.measure[programs](*pointers, replayed, *of_measure, **measure)
        self._compiler.fold[channels](*pointers, replayed, *of_fold, **fold)
