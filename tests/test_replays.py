"""CUDA graphs that are replayed: what was captured measures by the gate on the device.

The stub driver keeps what is launched within a capture and has the interpreter run it at each
replay; no host takes part in that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cuda_host
import numpy as np
import pytest
import torch
from cuda_host import Graph, HostCudaBackend, StubDriver
from torch import nn

import fmstats
import fmstats.backends
from fmstats import Tracker

pytestmark = cuda_host.needs_nvrtc

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(3))
PER_PASS = 2 * 36  # elements of a channel


class Captured:
    """A tracked model of one layer: a pass, then a capture of another one."""

    def __init__(self, stub: StubDriver, cuda: HostCudaBackend, **options: Any) -> None:
        self.model = nn.Sequential(nn.ReLU())
        self.tracker: Tracker = fmstats.track(self.model, **options)
        self.eager()
        with stub.capturing(cuda.runtime) as graph, torch.no_grad():
            self.model(X)
        self.graph: Graph = graph

    def eager(self) -> None:
        with torch.no_grad():
            self.model(X)

    def replay(self, times: int = 1) -> None:
        for _ in range(times):
            self.graph.replay()

    @property
    def passes(self) -> int:
        """How many passes the state has."""
        stats = self.tracker.stats()
        count, rest = divmod(int(stats["0"].count[0]), PER_PASS)
        assert rest == 0
        assert stats.info["0"].calls == count == stats.metadata["passes_measured"]
        return count


def test_a_replay_is_a_pass(stub: StubDriver, cuda: HostCudaBackend) -> None:
    case = Captured(stub, cuda)
    assert case.passes == 1  # what is captured does not run
    assert len(case.graph.recorded) == 2  # the pass begins, and a layer is measured
    case.replay(3)
    case.eager()
    case.replay()
    assert case.passes == 6
    stats = case.tracker.stats()
    assert stats.metadata["passes"] == 6
    with fmstats.track(model := nn.Sequential(nn.ReLU()), backend="reference") as want:
        for _ in range(6):
            model(X)
    for field in ("count", "zeros", "min", "max", "mean", "var"):
        np.testing.assert_allclose(
            getattr(stats["0"], field), getattr(want.stats()["0"], field), rtol=1e-6
        )


def test_every_third(stub: StubDriver, cuda: HostCudaBackend) -> None:
    """The first of every three replays, whatever the pass was when it was captured."""
    case = Captured(stub, cuda, every=3)
    counts = []
    for _ in range(7):
        case.replay()
        counts.append(case.passes - 1)
    assert counts == [1, 1, 1, 2, 2, 2, 3]
    assert case.tracker.stats().metadata["passes"] == 8


def test_a_closed_gate_reads_nothing(stub: StubDriver, cuda: HostCudaBackend) -> None:
    case = Captured(stub, cuda, every=2)
    stub.count_bytes = True
    read = []
    for _ in range(4):
        case.replay()
        read.append(stub.launches[-1].report.loads["x"].bytes if "x" in loads(stub) else 0)
    assert read[1] == read[3] == 0
    assert read[0] == read[2] == X.numel() * 4
    closed = stub.launches[-1].report
    assert set(closed.loads) == {"clock"}
    assert not closed.stores


def loads(stub: StubDriver) -> Any:
    return stub.launches[-1].report.loads


@pytest.mark.parametrize(
    ("shut", "open_again"),
    [(Tracker.pause, Tracker.resume), (Tracker.close, None)],
    ids=["pause", "close"],
)
def test_the_gate_is_closed(
    stub: StubDriver,
    cuda: HostCudaBackend,
    shut: Callable[[Tracker], None],
    open_again: Callable[[Tracker], None] | None,
) -> None:
    case = Captured(stub, cuda)
    case.replay()
    shut(case.tracker)
    case.replay(3)
    assert case.passes == 2
    assert case.tracker.stats().metadata["passes"] == 2
    if open_again is not None:
        open_again(case.tracker)
        case.replay()
        assert case.passes == 3


def test_captured_while_paused(stub: StubDriver, cuda: HostCudaBackend) -> None:
    """The launches are in the graph, since the device decides."""
    model = nn.Sequential(nn.ReLU())
    tracker = fmstats.track(model)
    model(X)
    tracker.pause()
    with stub.capturing(cuda.runtime) as graph:
        model(X)
    graph.replay()
    model(X)  # the host's gate is as it was
    assert tracker.stats()["0"].count[0] == PER_PASS
    tracker.resume()
    graph.replay()
    assert tracker.stats()["0"].count[0] == 2 * PER_PASS


def test_captured_in_a_pass_that_every_leaves_out(stub: StubDriver, cuda: HostCudaBackend) -> None:
    case = Captured(stub, cuda, every=2)  # the captured pass would be the second
    case.replay()
    assert case.passes == 2


@pytest.mark.parametrize("when", ["train", "eval"])
def test_another_mode_is_not_captured(stub: StubDriver, cuda: HostCudaBackend, when: str) -> None:
    model = nn.Sequential(nn.ReLU()).train(when == "train")
    tracker = fmstats.track(model, when=when)
    model(X)
    model.train(when != "train")
    with stub.capturing(cuda.runtime) as graph:
        model(X)
    assert graph.recorded == []
    assert tracker.stats().metadata["passes"] == 1


def test_eager_passes_between_replays(stub: StubDriver, cuda: HostCudaBackend) -> None:
    case = Captured(stub, cuda, every=2)  # the host goes on with pass 1 of 0, 1, ...
    for _ in range(2):
        case.eager()  # left out, then measured
    assert case.passes == 2
    case.replay(2)  # behind a measured one: left out, then measured
    assert case.passes == 3


def test_reset_between_replays(stub: StubDriver, cuda: HostCudaBackend) -> None:
    case = Captured(stub, cuda, every=3)
    case.replay(2)
    case.tracker.reset()
    assert case.tracker.stats().metadata["passes"] == 0
    assert len(case.tracker.stats()) == 0
    case.replay(4)
    assert case.passes == 2
    assert case.tracker.stats().metadata["passes"] == 4


def test_the_first_nan_of_a_replay(stub: StubDriver, cuda: HostCudaBackend) -> None:
    case = Captured(stub, cuda)
    case.replay(2)
    case.graph.tensors[1].view(torch.float32)[36] = torch.nan  # of channel 1 of sample 0
    case.replay(2)
    stats = case.tracker.stats()["0"]
    assert stats.nan.tolist() == [0, 2, 0]
    assert stats.first_pass.tolist() == [-1, 4, -1]  # 1 eagerly, 2 and 3 finite


def test_a_capture_launches_no_more_than_a_pass(stub: StubDriver, cuda: HostCudaBackend) -> None:
    """One launch a layer, as in eager mode, and one for the pass; nothing waits."""
    model = nn.Sequential(nn.ReLU(), nn.Sigmoid(), nn.Tanh())
    with fmstats.track(model):
        model(X)
        before = len(stub.calls())
        with stub.capturing(cuda.runtime) as graph:
            model(X)
        calls = stub.calls()[before:]
    assert len(graph.recorded) == 4
    assert calls.count("cuLaunchKernel") == 4
    allowed = {"cuLaunchKernel", "cuCtxGetCurrent", "cuCtxPushCurrent", "cuCtxPopCurrent"}
    assert set(calls) <= {*allowed, "cuStreamIsCapturing"}
