"""torch.cuda as gpu_check.py uses it, on the CPU: each call is held against the real signature.

Work is done at once, so streams have no say in the order; a graph remembers what to run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

REAL = {
    name: getattr(torch.cuda, name)
    for name in (
        *("Stream", "Event", "CUDAGraph", "graph", "stream", "current_stream", "default_stream"),
        *("synchronize", "get_device_properties", "mem_get_info", "memory_allocated", "_sleep"),
        *("max_memory_allocated", "reset_peak_memory_stats", "set_sync_debug_mode", "empty_cache"),
    )
}


def check_call(name: str, *args: Any, **kwargs: Any) -> None:
    """Raise TypeError if the real function would not take these arguments."""
    real = REAL[name]
    if inspect.isclass(real):
        maker = real.__init__ if real is REAL["graph"] else real.__new__
        inspect.signature(maker).bind(None, *args, **kwargs)
    else:
        inspect.signature(real).bind(*args, **kwargs)


class FakeStream:
    """A stream with a handle of its own."""

    made = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        check_call("Stream", *args, **kwargs)
        FakeStream.made += 1
        self.cuda_stream = FakeStream.made

    def wait_stream(self, stream: FakeStream) -> None:
        assert isinstance(stream, FakeStream)


class FakeEvent:
    """All is done when it is asked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        check_call("Event", *args, **kwargs)
        self.timed = bool(kwargs.get("enable_timing"))

    def record(self, stream: FakeStream | None = None) -> None:
        assert stream is None or isinstance(stream, FakeStream)

    def query(self) -> bool:
        return not self.timed  # the device lags behind the host where time is measured

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: FakeEvent) -> float:
        assert self.timed
        assert end.timed
        return 2.0


class FakeGraph:
    """What was captured is what `capturing` was told to run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        inspect.signature(REAL["CUDAGraph"].__new__).bind(None, *args, **kwargs)
        self.run: Callable[[], object] = lambda: None

    def replay(self) -> None:
        with torch.no_grad():
            self.run()


class FakeCuda:
    """The stand-ins, once they are in place.

    Attributes:
        stream: the current one.
        on_stream: told of every change of it.
        on_capture: told whether a capture is under way.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stream = self.default = FakeStream()
        self.on_stream: Callable[[FakeStream], None] = lambda stream: None
        self.on_capture: Callable[[bool], None] = lambda capturing: None
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        fakes: dict[str, Any] = {
            "Stream": FakeStream,
            "Event": FakeEvent,
            "CUDAGraph": FakeGraph,
            "graph": self.graph,
            "stream": self.on,
            "current_stream": self.function("current_stream", lambda: self.stream),
            "default_stream": self.function("default_stream", lambda: self.default),
            "get_device_properties": self.function(
                "get_device_properties",
                lambda: SimpleNamespace(multi_processor_count=4, name="NVIDIA X", total_memory=1),
            ),
            "mem_get_info": self.function("mem_get_info", lambda: (1 << 20, 1 << 40)),
            "memory_allocated": self.function("memory_allocated", lambda: 1000),
            "max_memory_allocated": self.function("max_memory_allocated", lambda: 5000),
        }
        for name in REAL:
            fake = fakes.get(name) or self.function(name, lambda: None)
            monkeypatch.setattr(torch.cuda, name, fake)

    def function(self, name: str, answer: Callable[[], Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            check_call(name, *args, **kwargs)
            self.calls.append((name, args))
            return answer()

        return called

    @contextmanager
    def on(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        check_call("stream", *args, **kwargs)
        before, self.stream = self.stream, args[0]
        self.on_stream(self.stream)
        try:
            yield
        finally:
            self.stream = before
            self.on_stream(before)

    @contextmanager
    def graph(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        check_call("graph", *args, **kwargs)
        self.on_capture(True)
        try:
            with self.on(kwargs["stream"]):
                yield
        finally:
            self.on_capture(False)
