"""From the meter to Triton's launcher: the real engine, on a stand-in for the driver.

What the driver is handed is run by the interpreter of PTX. Only the launcher's C code is left out;
each call is held against its signature.
"""

from __future__ import annotations

import gc
import importlib.metadata
import inspect
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import triton_host
from partials import Layer, arguments, open_clock
from ptx import Memory, launch
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor

from fmstats.backends.reference import ReferenceBackend
from fmstats.backends.triton import engine
from fmstats.backends.triton.backend import TritonBackend
from fmstats.errors import FmstatsError
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

pytestmark = triton_host.needs_triton
ALL = Thresholds(zero_tol=0.1, low=-0.5, high=1.0)
STREAM = 7
# 3.2 knows no limit of threads, and names its driver otherwise.
NEWER = triton_host.why_not() is not None or not importlib.metadata.version("triton").startswith(
    "3.2."
)


class FakeStream:
    def __init__(self, number: int) -> None:
        self.number, self.waited = number, []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FakeStream) and other.number == self.number

    def __hash__(self) -> int:
        return self.number

    def wait_stream(self, other: FakeStream) -> None:
        self.waited.append(other.number)


class FakeTorch:
    """torch.cuda as the engine uses it, of one GPU."""

    def __init__(self) -> None:
        self.capturing_on: set[int] = set()
        self.now, self.entered = FakeStream(1), []
        self.synchronized = 0

    def current_device(self) -> int:
        return 0

    def is_available(self) -> bool:
        return True

    def get_device_name(self, index: int) -> str:
        return "a stand-in"

    def current_stream(self, index: int) -> FakeStream:
        return self.now

    def is_current_stream_capturing(self) -> bool:
        return self.now.number in self.capturing_on

    def synchronize(self, index: int) -> None:
        self.synchronized += 1

    @contextmanager
    def stream(self, stream: FakeStream) -> Any:
        before, self.now = self.now, stream
        yield
        self.now = before


class FakeDriver:
    """Triton's driver: loads nothing, and has the interpreter run what is launched."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.tensors, self.loaded, self.calls = tensors, 0, []
        self.utils = SimpleNamespace(
            get_device_properties=lambda index: {"max_shared_mem": 1 << 16},
            load_binary=self.load,
            unload_module=lambda module: None,
        )

    def get_current_target(self) -> Any:
        return triton_host.target_of("90")

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, index: int) -> int:
        return STREAM

    def load(self, name: str, code: bytes, shared: int, device: int) -> tuple[int, ...]:
        assert code.startswith(b"\x7fELF")
        self.loaded += 1
        return (1, 2, 32, 0, 1024)[: 5 if NEWER else 4]

    def launcher_cls(self, source: Any, metadata: Any) -> Any:
        from triton.backends.nvidia.driver import CudaLauncher

        def run(*arguments: Any) -> None:
            inspect.signature(CudaLauncher.__call__).bind(None, *arguments)
            programs, _, _, stream, function, _, *hooks = arguments[:9]
            assert (stream, function, hooks) == (STREAM, 2, [None] * 3)
            kinds = list(source.signature.values())
            assert len(arguments) - 9 == len(kinds)
            given = [a for a, k in zip(arguments[9:], kinds, strict=True) if k != "constexpr"]
            self.calls.append(metadata.name)
            compiled = next(k for k in made if k.metadata.name == metadata.name)
            module = triton_host.parse(compiled.asm["ptx"])
            memory = Memory()
            for tensor in self.tensors:
                memory.map_address(tensor.data_ptr(), tensor.numel() * tensor.itemsize, "memory")
            entry = module.kernels[metadata.name]
            launch(
                module,
                metadata.name,
                grid=programs,
                block=metadata.num_warps * 32,
                arguments=[*given, *[0] * (len(entry.params) - len(given))],
                memory=memory,
                shared_bytes=metadata.shared,
            )

        return run


made: list[Any] = []


@pytest.fixture
def fake(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[engine.GpuEngine, FakeDriver, FakeTorch]]:
    """An engine whose GPU is not there."""
    from triton.runtime import driver

    tensors: list[Tensor] = []
    there, ours = FakeTorch(), FakeDriver(tensors)
    monkeypatch.setattr(torch, "get_device_module", lambda device: there)
    monkeypatch.setattr(driver, "_active" if NEWER else "active", ours)
    make = engine.GpuEngine._make

    def remember(self: engine.GpuEngine, key: object, kernel: Any) -> None:
        made.append(kernel)
        make(self, key, kernel)

    monkeypatch.setattr(engine.GpuEngine, "_make", remember)
    yield engine.GpuEngine(torch.device("cuda", 0)), ours, there
    for kernel in made:
        kernel.module = None  # nothing is to be unloaded when the driver has gone
    made.clear()


def test_from_the_meter_to_the_launcher(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found, ours, there = fake
    backend = TritonBackend()
    monkeypatch.setattr(backend, "engine", lambda device: found)
    x = torch.randn(3, 4, 8, 8)
    state, want = State.identity(4), State.identity(4)
    keep = torch.empty
    monkeypatch.setattr(
        torch, "empty", lambda *a, **k: ours.tensors.append(keep(*a, **k)) or ours.tensors[-1]
    )
    meter = backend.meter(state, ALL)
    limits = meter._limits[torch.float32] = meter._compared_as(torch.float32)
    ours.tensors += [x, state.words, limits, meter.clock.words]
    meter.update(x, view_of(x, 1))
    ours.tensors.pop()
    assert meter.try_update(x)
    assert ours.calls == ["measure", "fold"] * 2
    assert ours.loaded == 2
    for _ in range(2):
        ReferenceBackend().accumulate(want, x, view_of(x, 1), ALL)
    assert_equal_states(state, want, ACCURACY[torch.float32])
    meter.wait()
    assert there.synchronized == 1
    assert found.describe().startswith("a stand-in (cuda:90), Triton 3")


def test_the_fold_of_graphs(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found, ours, there = fake
    backend, layer, clock = TritonBackend(), Layer(torch.randn(5, 6, 20)), open_clock()
    monkeypatch.setattr(backend, "engine", lambda device: found)
    args: Any = arguments([layer], clock)
    ours.tensors += [*args[0], layer.state.memory, clock.words]
    there.capturing_on = {1}
    with pytest.raises(FmstatsError, match="folds partials is compiled and loaded while"):
        backend.fold(*args)
    there.capturing_on = set()
    backend.prepare_fold(torch.device("cuda", 0))
    assert ours.loaded == 2
    there.capturing_on = {1}
    backend.fold(*args)
    assert ours.calls == ["graph_fold"]
    ReferenceBackend().accumulate(layer.want, layer.x, view_of(layer.x, 1), Thresholds())
    assert_equal_states(layer.state, layer.want, ACCURACY[torch.float32])


def test_streams_in_and_out_of_captures(fake: Any) -> None:
    found, _, there = fake
    words = SimpleNamespace(record_stream=lambda stream: None)
    one, two = FakeStream(1), FakeStream(2)
    assert found.order(None, words) == one
    there.now = two
    assert found.order(one, words) == two
    assert two.waited == [1]
    there.capturing_on = {2}  # what was captured cannot wait for what was not
    assert found.capturing()
    found.order(one, words)
    assert two.waited == [1]
    there.capturing_on = {1, 2}
    found.order(one, words)
    assert two.waited == [1, 1]


def test_a_capture_begins_nothing_and_keeps_what_it_writes_to(
    fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _, there = fake
    backend = TritonBackend()
    monkeypatch.setattr(backend, "engine", lambda device: found)
    monkeypatch.setattr(found, "launch", lambda *_, **__: None)
    x = torch.randn(3, 4, 8, 8)
    forgotten: Any = backend.meter(State.identity(4), ALL)
    meter: Any = backend.meter(State.identity(4), ALL)
    for each in (forgotten, meter):
        each.update(x, view_of(x, 1))
    there.capturing_on = {there.now.number}
    assert meter.try_update(x)
    text = "while a graph is being captured.* before the capture"
    with pytest.raises(FmstatsError, match=f"a layer is measured for the first time {text}"):
        backend.meter(State.identity(4), ALL)
    with pytest.raises(FmstatsError, match=f"a tensor of another kind than before .* {text}"):
        meter.update(x[:1], view_of(x[:1], 1))
    captured, never = weakref.ref(meter), weakref.ref(forgotten)
    del meter, forgotten, each
    gc.collect()
    assert captured() is not None
    assert never() is None


def test_the_backend_opens_it_once(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, ours, _ = fake
    monkeypatch.setattr(engine, "interpreting", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    backend = TritonBackend()
    with pytest.raises(FmstatsError, match="begins to use a GPU while a graph is being captured"):
        backend.why_not(torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    before = ours.loaded
    assert backend.why_not() is None
    assert backend.why_not(torch.device("cuda", 0)) is None
    assert ours.loaded == before + 1
