"""From a hook to the driver and back to a Profile, with a stub in the driver's place."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import cuda_host
import pytest
import torch
from cuda_host import ALL, PLAIN, HostCudaBackend, StubDriver, fold
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor, nn

import fmstats
import fmstats.backends
from fmstats.backends.reference import ReferenceBackend
from fmstats.errors import FmstatsError
from fmstats.statistic.state import State
from fmstats.statistic.view import grouped_view_of, view_of

pytestmark = cuda_host.needs_nvrtc

FAST = hasattr(Tensor, "__dlpack_c_exchange_api__")  # torch from 2.10


def make_model() -> nn.Module:
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(), nn.Flatten(), nn.Linear(288, 5))
    return nn.Sequential(*layers).eval()


def test_from_hook_to_profile(stub: StubDriver, cuda: HostCudaBackend) -> None:
    model = make_model()
    batches = [torch.randn(4, 3, 8, 8) for _ in range(3)]
    with fmstats.track(model) as tracker:
        for batch in batches:
            model(batch)
    profile = tracker.stats()
    with fmstats.track(model, backend="reference") as reference:
        for batch in batches:
            model(batch)
    for name, stats in reference.stats().items():
        got = profile[name]
        assert profile.info[name].backend == "cuda"
        for field in ("count", "zeros", "min", "max", "sat_high"):
            assert (getattr(got, field) == getattr(stats, field)).all()
        assert got.mean == pytest.approx(stats.mean, rel=1e-6, abs=1e-6)
        assert got.var == pytest.approx(stats.var, rel=1e-6)
    assert profile.metadata["backends"] == {"cpu": "cuda: the best for cpu"}
    assert len(stub.launches) == 5 * 3  # one a hook
    assert all(launch.report.findings == [] for launch in stub.launches)


def test_what_a_hook_asks_of_the_driver(stub: StubDriver, cuda: HostCudaBackend) -> None:
    """After the first batch, a launch and the context it needs: nothing that waits or allocates."""
    model = nn.Sequential(nn.ReLU())
    x = torch.randn(2, 8, 8, 8)
    with fmstats.track(model):
        model(x)
        before = len(stub.calls())
        model(x.clone())
        calls = stub.calls()[before:]
    context = ["cuCtxGetCurrent", "cuCtxPushCurrent"]
    asked = ["cuStreamIsCapturing"] if FAST else []
    assert calls == [*context, *asked, "cuLaunchKernel", "cuCtxPopCurrent"]
    assert stub.contexts() == 0


@pytest.mark.skipif(not FAST, reason="torch is older than 2.10, without DLPack's C exchange API")
def test_a_tensor_like_the_last_one_needs_no_python(
    stub: StubDriver, cuda: HostCudaBackend
) -> None:
    x = torch.randn(2, 8, 8, 8)
    meter = cuda.meter(State.identity(8), PLAIN)
    assert not meter.try_update(x)
    meter.update(x, view_of(x, 1))
    assert meter.try_update(x.clone())
    assert not meter.try_update(x[:1])  # another shape
    assert not meter.try_update(x.double())
    assert not meter.try_update(x.transpose(2, 3))
    assert not meter.try_update("a string")
    moved = torch.empty(x.numel() + 1)[1:].view(x.shape).copy_(x)
    assert not meter.try_update(moved)  # aligned otherwise than planned
    assert meter.try_update(x)
    stub.capture(True)
    assert not meter.try_update(x)
    stub.capture(False)
    cuda.runtime.current = 77
    meter.update(x, view_of(x, 1))
    assert not meter.try_update(x)  # torch, asked by the native module, is on stream 0
    assert [launch.stream for launch in stub.launches] == [0, 0, 0, 77]


@pytest.mark.skipif(not FAST, reason="torch is older than 2.10, without DLPack's C exchange API")
def test_a_masked_tensor_like_the_last_one_needs_no_python(
    stub: StubDriver, cuda: HostCudaBackend
) -> None:
    x, numbers = torch.randn(4, 8, 8, 8), torch.tensor([1, 0, 2, 1], dtype=torch.uint8)
    others = torch.tensor([0, 0, 1, 0], dtype=torch.uint8)
    meter = cuda.meter(State.identity(2 * 8), PLAIN)
    assert not meter.try_groups(x, numbers.data_ptr())
    meter.update_groups(x, *grouped_view_of(x, 1, numbers[:, None, None, None], groups=2))
    assert meter.try_groups(x.clone(), others.data_ptr())
    assert not meter.try_groups(x[:1], others.data_ptr())
    assert not meter.try_groups("a string", others.data_ptr())
    moved = torch.cat([others, others])[1:]
    assert not meter.try_groups(x, moved.data_ptr())  # aligned otherwise than planned
    assert meter.state["count"].tolist() == [3 * 64] * 8 + [64] * 8
    stub.capture(True)
    assert not meter.try_groups(x, numbers.data_ptr())
    stub.capture(False)
    cuda.runtime.current = 77
    meter.update_groups(x, *grouped_view_of(x, 1, numbers[:, None, None, None], groups=2))
    assert not meter.try_groups(x, numbers.data_ptr())  # torch is on stream 0
    assert [launch.stream for launch in stub.launches] == [0, 0, 77]


@pytest.mark.skipif(not FAST, reason="torch is older than 2.10, without DLPack's C exchange API")
def test_a_masked_hook_asks_the_driver_for_one_launch(
    stub: StubDriver, cuda: HostCudaBackend
) -> None:
    model = nn.ReLU()
    x, mask = torch.randn(4, 6, 16), torch.arange(6) < torch.tensor([[1], [2], [6], [4]])
    with fmstats.track(model, channel_dim=2) as tracker, tracker.positions(mask):
        for _ in range(3):
            model(x)
        before = len(stub.calls())
        model(x.clone())
        calls = stub.calls()[before:]
    assert calls == [
        *("cuCtxGetCurrent", "cuCtxPushCurrent", "cuStreamIsCapturing"),
        *("cuLaunchKernel", "cuCtxPopCurrent"),
    ]
    assert tracker.stats()["(model)"].count.tolist() == [4 * 13] * 16


@pytest.mark.parametrize(
    "call",
    [
        *("cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuLibraryLoadData"),
        *("cuLibraryGetKernel", "cuKernelGetFunction"),
    ],
)
def test_what_fails_before_a_backend_is_chosen(
    stub: StubDriver, cuda: HostCudaBackend, call: str
) -> None:
    """The next best takes over, and everybody says why; by name it is an error."""
    stub.fail(call)
    x = torch.randn(2, 3, 4, 4)
    model = nn.Sequential(nn.ReLU())
    with fmstats.track(model) as tracker:
        model(x)
    reason = f"{call} failed: CUDA_ERROR_LAUNCH_FAILED (unspecified launch failure)"
    profile = tracker.stats()
    assert profile.info["0"].backend == "torch"
    assert profile.metadata["backends"] == {"cpu": f"torch: cuda cannot be used: {reason}"}
    assert profile["0"].count.tolist() == [32] * 3
    row = next(row for row in fmstats.backends.list_backends() if row.name == "cuda")
    assert (row.usable, row.detail) == (False, reason)
    with pytest.raises(FmstatsError, match=r"'cuda' cannot be used: .*; usable here: torch"):
        fmstats.channel_stats(x, backend="cuda")


def test_bindings_that_are_missing(
    stub: StubDriver, cuda: HostCudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch may see a GPU where cuda-bindings is not installed: the next best, and the reason."""

    def missing(index: int) -> None:
        raise FmstatsError("the package cuda-bindings cannot be imported")

    monkeypatch.setattr(cuda.runtime, "capture", missing)
    assert fmstats.channel_stats(torch.ones(2, 3)).count.tolist() == [2] * 3
    assert fmstats.backends.why_chosen("auto", torch.device("cpu")) == (
        "cuda cannot be used: the package cuda-bindings cannot be imported"
    )


@pytest.mark.parametrize("call", ["cuLaunchKernel", "cuCtxGetCurrent", "cuCtxPushCurrent"])
def test_a_failed_launch_loses_nothing(stub: StubDriver, cuda: HostCudaBackend, call: str) -> None:
    model = nn.Sequential(nn.ReLU())
    x = torch.randn(2, 8, 8, 8)
    with fmstats.track(model, on_error="raise") as tracker:
        model(x)
        stub.fail(call)
        with pytest.raises(FmstatsError, match=rf"layer '0' \(ReLU\): {call} failed: CUDA_ERROR_"):
            model(x)
        assert stub.contexts() == 0
        assert tracker.stats()["0"].count.tolist() == [128] * 8
        stub.fail("")
        model(x)
    assert tracker.stats()["0"].count.tolist() == [256] * 8


def test_a_later_kernel_that_fails_to_load(stub: StubDriver, cuda: HostCudaBackend) -> None:
    """One kernel was loaded when the backend was chosen; another is refused when it is needed."""
    model = nn.Sequential(nn.ReLU())
    with fmstats.track(model, on_error="raise") as tracker:
        model(torch.randn(2, 3, 4, 4))
        stub.fail("cuLibraryLoadData", 2)
        with pytest.raises(FmstatsError, match=r"layer '0' \(ReLU\): cuLibraryLoadData failed"):
            model(torch.randn(2, 3, 4, 4).half())
    assert tracker.stats()["0"].count.tolist() == [32] * 3


def test_a_kernel_that_the_device_refuses(stub: StubDriver, cuda: HostCudaBackend) -> None:
    """What goes wrong inside a launch surfaces as the driver tells it."""

    def spoil(args: cuda_host.CudaArgs) -> None:
        args.data += 1

    model = nn.Sequential(nn.ReLU())
    with fmstats.track(model, on_error="raise"):
        stub.change = spoil
        with pytest.raises(FmstatsError, match=r"cuLaunchKernel failed: CUDA_ERROR_LAUNCH_FAILED"):
            model(torch.randn(2, 3, 4, 4))
    assert "misaligned access" in str(stub.errors[0])


def test_another_stream_waits_for_the_last_one(stub: StubDriver, cuda: HostCudaBackend) -> None:
    x = torch.randn(2, 8, 8, 8)
    meter = cuda.meter(State.identity(8), PLAIN)
    for cuda.runtime.current in (0, 5, 5, 6, 0):
        meter.update(x, view_of(x, 1))
    assert cuda.runtime.followed == [(0, 5), (5, 6), (6, 0)]
    assert [launch.stream for launch in stub.launches] == [0, 5, 5, 6, 0]


def test_streams_around_a_capture(stub: StubDriver, cuda: HostCudaBackend) -> None:
    """Forks of one capture wait for each other; nothing waits across its beginning or end."""
    x, runtime = torch.randn(2, 8, 8, 8), cuda.runtime
    meter = cuda.meter(State.identity(8), PLAIN)
    for runtime.current, runtime.capturing in (
        *[(1, None), (2, 40), (3, 40), (2, 40)],  # eager, then a capture that forks and joins
        *[(4, None), (5, None)],  # eager again: after the eager work before
        *[(2, 41), (6, 42)],  # two captures more
    ):
        meter.update(x, view_of(x, 1))
    assert runtime.followed == [(2, 3), (3, 2), (1, 4), (4, 5)]


def test_a_capture_begins_nothing(stub: StubDriver, cuda: HostCudaBackend) -> None:
    """What a replay would do again, such as clearing a state, has to come before."""
    x, view = torch.randn(2, 8, 8, 8), view_of(torch.empty(2, 8, 8, 8), 1)
    runtime, text = cuda.runtime, "a graph is being captured.* before the capture"
    runtime.capturing = 1
    with pytest.raises(FmstatsError, match=f"begins to use a GPU while {text}"):
        fmstats.channel_stats(x)
    runtime.capturing = None
    meter = cuda.meter(State.identity(8), PLAIN)
    meter.update(x, view)
    runtime.capturing = 2
    meter.update(x, view)
    with pytest.raises(FmstatsError, match=f"a layer is measured for the first time while {text}"):
        cuda.meter(State.identity(8), PLAIN)
    double = torch.randn(2, 8, 8, 8).double()
    with pytest.raises(FmstatsError, match=f"kernel rows_warp is compiled and loaded while {text}"):
        meter.update(double, view)


def test_what_a_graph_may_write_to_is_kept(stub: StubDriver, cuda: HostCudaBackend) -> None:
    """The state of a layer that was captured outlives the layer, that of another one does not."""
    x = torch.randn(4000, 8)
    forgotten: Any = cuda.meter(State.identity(8), PLAIN)
    meter: Any = cuda.meter(State.identity(8), PLAIN)
    for each in (forgotten, meter):
        each.update(x, view_of(x, 1))
    cuda.runtime.capturing = 1
    meter.update(x, view_of(x, 1))
    cuda.runtime.capturing = None
    captured, never = weakref.ref(meter.state.words), weakref.ref(forgotten.state.words)
    del meter, forgotten, each
    gc.collect()
    assert captured() is not None
    assert never() is None


def test_workspaces(stub: StubDriver, cuda: HostCudaBackend) -> None:
    """One a stream for all layers; one of its own for each stream of a capture; none taken back."""
    runtime, kept = cuda.runtime, []
    small, large = torch.randn(4000, 8), torch.randn(400000, 8)
    meters = [cuda.meter(State.identity(8), PLAIN) for _ in range(2)]
    for runtime.current, runtime.capturing, meter, x in (
        *[(0, None, meters[0], small), (0, None, meters[1], small), (5, None, meters[1], small)],
        *[(7, 1, meters[0], small), (8, 1, meters[0], small), (7, 2, meters[0], small)],
        *[(0, None, meters[1], large), (0, None, meters[0], small)],
    ):
        meter.update(x, view_of(x, 1))
        kept.append(stub.launches[-1].args.parts)
    eager, also, other, graph, fork, second, larger, again = kept
    assert eager == also
    assert larger == again
    assert len({eager, other, graph, fork, second, larger}) == 6
    device = cuda.device(torch.device("cpu"))
    made = [parts for rooms in device.workspaces._made.values() for parts, _ in rooms]
    assert {eager, other, graph, fork, second, larger} <= {parts.data_ptr() for parts in made}


def test_layers_that_change_shape_and_dtype(stub: StubDriver, cuda: HostCudaBackend) -> None:
    state, whole = State.identity(8), State.identity(8)
    meter = cuda.meter(state, ALL)
    for x in (
        torch.randn(4, 8, 7, 7),
        torch.randn(4, 8, 7, 7).half(),
        torch.randn(9, 8),
        torch.randn(2, 8, 6, 6).contiguous(memory_format=torch.channels_last),
        torch.empty(0, 8, 3),
        torch.randn(3, 8, 5).double(),
    ):
        meter.update(x, view_of(x, 1))
        whole.merge_(fold(ReferenceBackend(), x, 1, ALL))
    assert_equal_states(state, whole, ACCURACY[torch.float32])


def test_a_default_device_is_not_asked(stub: StubDriver, cuda: HostCudaBackend) -> None:
    """Thresholds are worked out on the host, whatever `torch.set_default_device` says."""
    x = torch.randn(2, 8)
    with torch.device("meta"):
        meter = cuda.meter(State.identity(8, "cpu"), ALL)
        for dtype in (torch.float32, torch.float16, torch.float64):
            meter.update(x.to("cpu", dtype), view_of(x, 1))
    assert meter.state["count"].tolist() == [6] * 8


def test_under_inference_mode(stub: StubDriver, cuda: HostCudaBackend) -> None:
    model = nn.Sequential(nn.ReLU())
    with fmstats.track(model) as tracker:
        with torch.inference_mode():
            model(torch.randn(2, 3, 4, 4))
        model(torch.randn(2, 3, 4, 4))
        tracker.reset()
        model(torch.randn(2, 3, 4, 4))
    assert tracker.stats()["0"].count.tolist() == [32] * 3
