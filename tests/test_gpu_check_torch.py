"""What `make gpu-check` asks of torch.cuda and of the cuda backend, without a GPU.

torch.cuda is stood in for by fakes that know its signatures, the backend runs over the stub of the
driver and the interpreter.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import cuda_host
import pytest
import torch
import triton_host
from fake_cuda import FakeCuda, FakeGraph, FakeStream
from torch import nn

import fmstats.backends
from fmstats.backends import Backend
from fmstats.backends.cpu import CpuBackend
from fmstats.backends.reference import ReferenceBackend

large = importlib.import_module("gpu_checks.large")
machine = importlib.import_module("gpu_checks.machine")
parity = importlib.import_module("gpu_checks.parity")
reports = importlib.import_module("gpu_checks.report")
streams = importlib.import_module("gpu_checks.streams")
triton = importlib.import_module("gpu_checks.triton")
training = importlib.import_module("gpu_checks.training")

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(
    CpuBackend().why_not() is not None, reason="the native module is not built"
)


@pytest.fixture
def setup() -> object:
    return reports.Setup(CpuBackend(), CPU, quick=True)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


@pytest.fixture
def host(
    stub: object, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> cuda_host.HostCudaBackend:
    """The cuda backend on CPU tensors, told of the stand-ins' streams and captures."""
    backend = cuda_host.host_backend()
    monkeypatch.setattr(fmstats.backends, "BACKENDS", (backend, ReferenceBackend()))
    cuda.on_stream = lambda stream: setattr(backend.runtime, "current", stream.cuda_stream)
    cuda.on_capture = lambda capturing: setattr(
        backend.runtime, "capturing", 1 if capturing else None
    )
    return backend


class There(reports.Setup):
    """A place that says of itself that it is a GPU."""

    on_gpu = True


def outcomes(report: object) -> list[str]:
    return [check["outcome"] for check in report.checks]


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "every other"])
def test_parity_of_the_interpreted_kernels(host: Backend, layout: str) -> None:
    for shape, thresholds in (((2, 3), "none"), ((3, 5, 7), "all"), ((2, 4, 7, 7), "upper")):
        case = parity.Case(torch.bfloat16, layout, "nan and inf", shape, thresholds)
        parity.check_case(host, CPU, case)
        parity.check_same_bits(host, CPU, case, runs=2)


@triton_host.needs_triton
def test_triton_beside_cuda(host: Backend, monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> None:
    ours = triton_host.host_backend()
    monkeypatch.setattr(fmstats.backends, "BACKENDS", (host, ours, ReferenceBackend()))
    monkeypatch.setattr(parity, "QUICK_DTYPES", (torch.float32,))
    monkeypatch.setattr(parity, "QUICK_KINDS", ("nan and inf",))
    monkeypatch.setattr(parity, "SMALL", parity.SMALL[:2])
    monkeypatch.setattr(parity, "MIDDLE", ())
    monkeypatch.setattr(parity, "LARGE", ((2, 3, 40, 8),))
    monkeypatch.setattr(triton, "SHAPES", (((2, 8, 8, 8), "contiguous"),))
    monkeypatch.setattr(triton, "DTYPES", (torch.float32,))
    monkeypatch.setattr(triton.bandwidth, "measure_hook", lambda *what: {"added": 1.0})
    report = reports.Report("triton")
    triton.run(reports.Setup(host, CPU, quick=True), report)
    assert report.count("failed") == report.count("skipped") == 0
    assert [row["dtype"] for row in report.figures["triton"]] == ["float32"]
    assert set(report.figures["hook_us"]) == {"cuda", "triton"}


def test_without_triton_nothing_is_compared(setup: object) -> None:
    report = reports.Report("triton")
    triton.run(setup, report)
    assert outcomes(report) == ["skipped"]


def test_a_large_tensor_without_room_is_skipped(cuda: FakeCuda) -> None:
    there = reports.Setup(CpuBackend(), torch.device("cuda", 0))
    with pytest.raises(reports.Skipped, match=r"needs 3\.2 GB, 0\.0 GB are free"):
        large.check_large(there, large.LARGE[0])


def test_training_is_left_as_it_is(setup: object) -> None:
    report = reports.Report("training")
    training.run(setup, report)
    # A CPU has no memory that torch counts and no waits that it watches.
    assert outcomes(report) == ["passed", "passed", "skipped", "skipped"]


def test_training_sees_another_gradient(setup: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def track(model: nn.Module, setup: object) -> object:
        model.head.register_forward_hook(lambda m, args, out: out * 1.5)
        return fmstats.track(model)

    monkeypatch.setattr(training, "track", track)
    with pytest.raises(AssertionError, match="another output"):
        training.check_gradients(setup, torch.bfloat16)


def test_memory_is_what_states_and_workspaces_take(setup: object, cuda: FakeCuda) -> None:
    model, x = training.Net().train(), torch.randn(training.SHAPE)
    allowed = training.bytes_allowed(model, x, setup, torch.bfloat16)
    # Seven layers of 10 to 64 channels, 104 bytes each, in pieces of 512; workspaces on top.
    assert allowed > 3 * 3584 + 3 * 6656 + 1536
    assert allowed % training.UNIT == 0
    assert training.memory_of_a_step(model, x, torch.bfloat16) == (1000, 5000)


def test_memory_that_grows_is_seen(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    there, report = There(CpuBackend(), CPU), reports.Report("training")
    said = training.check_memory(there, torch.bfloat16, report)
    assert said.endswith("held 0, more_at_most 0, step 4,000 bytes")
    assert report.figures["memory bfloat16"]["held"] == 0
    held = iter([1000, 1 << 30])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: next(held))
    with pytest.raises(AssertionError, match="held"):
        training.check_memory(there, torch.bfloat16, report)


def test_a_wait_is_forbidden_while_a_step_runs(cuda: FakeCuda) -> None:
    there = There(CpuBackend(), CPU)
    assert training.check_no_wait(there) == "5 steps of three batch sizes on two streams"
    modes = [args for name, args in cuda.calls if name == "set_sync_debug_mode"]
    assert modes == 2 * [("error",), ("default",)]


@pytest.fixture
def _captures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captures that run nothing while they are made, as a GPU's do."""
    real = streams.capture

    def capture(run: Callable[[], object], stream: FakeStream) -> FakeGraph:
        graph: FakeGraph = real(lambda: None, stream)
        graph.run = run
        return graph

    monkeypatch.setattr(streams, "capture", capture)


@pytest.mark.usefixtures("_captures")
def test_replays_ask_the_gate(
    setup: object, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SHAPE", (2, 32, 8, 8))
    assert "measured, those while" in streams.check_gate(setup)
    monkeypatch.setattr(fmstats.Tracker, "pause", lambda tracker: None)
    with pytest.raises(AssertionError):
        streams.check_gate(setup)


@pytest.mark.usefixtures("_captures")
def test_replays_count_as_passes(
    setup: object, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SHAPE", (2, 32, 8, 8))
    monkeypatch.setattr(streams, "LARGER", (4, 32, 8, 8))
    assert "7 replays" in streams.check_replays(setup, streams.plain_model(), True)
    assert "7 replays" in streams.check_replays(setup, streams.conv_model(), False)
    assert streams.check_larger(setup) == "the same bits as eager passes"
    assert streams.check_reset(setup) == "foreign memory is left alone"
    with pytest.raises(AssertionError, match="not refused"):
        streams.check_refusal(setup, None, "for the first time")
    monkeypatch.setattr(FakeGraph, "replay", lambda self: None)
    with pytest.raises(AssertionError, match="count"):
        streams.check_replays(setup, streams.plain_model(), True)


def test_streams_in_turn(host: Backend, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SHAPE", (1, 2, 4, 4))
    there = reports.Setup(host, CPU)
    default, side = cuda.default, FakeStream()
    assert "waited" in streams.check_order(there, default, side)
    assert host.runtime.followed == [(default.cuda_stream, side.cuda_stream)]
    assert "20 passes" in streams.check_alternating(there)
    assert streams.check_stats_wait(there) == "all batches are in"


def test_a_stream_that_overtakes_is_seen(
    host: Backend, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SHAPE", (1, 2, 4, 4))
    done = iter([True, False])  # the second stream, then the first
    monkeypatch.setattr(torch.cuda.Event, "query", lambda self: next(done))
    with pytest.raises(AssertionError, match="did not wait"):
        streams.check_order(reports.Setup(host, CPU), cuda.default, FakeStream())


def test_every_check_of_streams_is_made(
    setup: object, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SHAPE", (2, 32, 8, 8))
    monkeypatch.setattr(streams, "LARGER", (4, 32, 8, 8))
    report = reports.Report("streams")
    streams.run(setup, report)
    # The cpu backend knows neither streams nor captures.
    assert report.count("failed") >= 5
    assert len(report.checks) == 11


def test_refusals_are_the_backend_s_own(
    host: Backend, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LARGER", (9, 4, 16, 32))
    monkeypatch.setattr(
        streams, "plain_model", lambda: nn.Sequential(nn.Identity(), nn.Flatten()).eval()
    )
    there = reports.Setup(host, CPU)
    assert "captured" in streams.check_refusal(there, None, "for the first time")


def test_kernels_are_compiled_and_loaded(host: Backend) -> None:
    report = reports.Report("kernels")
    machine.load_kernels(reports.Setup(host, CPU), report, [("rows_warp", 0, 0)])
    assert outcomes(report) == ["passed", "passed"]
    assert report.figures["compiled"]["kernels"] == 1
