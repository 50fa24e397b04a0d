"""The CUDA kernels measure on request in the same pass: right, deterministic, and for no load more.

Their PTX runs in the interpreter; kernels for which nothing is asked are tested elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cuda_host
import pytest
import torch
from cuda_host import ALL, PLAIN, HostCudaBackend, StubDriver, fold, host_backend, kernel_of
from requested_states import all_of, bins_of, with_edges
from test_cuda_groups import TENSORS as GROUPED
from test_cuda_groups import measure, numbers_of
from test_cuda_kernels import TENSORS
from tolerances import ACCURACY, assert_equal_requested, assert_equal_states
from torch import Tensor, nn

import fmstats
from fmstats.backends.cuda import nvrtc
from fmstats.backends.cuda.asked import NOTHING, Asked
from fmstats.backends.reference import ReferenceBackend
from fmstats.statistic.bins import Bins
from fmstats.statistic.measures import Measures
from fmstats.statistic.state import State
from fmstats.statistic.view import view_of

pytestmark = cuda_host.needs_nvrtc

REFERENCE = ReferenceBackend()
FLOATS = (torch.float32, torch.bfloat16)
OTHERS = (torch.float16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2)
# Of every kernel two dtypes, of every dtype three kernels.
CASES = [(kernel, dtype) for kernel in TENSORS for dtype in FLOATS]
CASES += [(kernel, dtype) for kernel in ("rows", "ragged_warp", "columns_one") for dtype in OTHERS]


def edged(x: Tensor) -> Tensor:
    """The tensor with other data, in the same place."""
    return x.copy_(with_edges(tuple(x.shape), x.dtype))


def check(stub: StubDriver, x: Tensor, measures: Measures, times: int = 1) -> State:
    """The state of a tensor that comes some times, once it is known to be right."""
    backend = host_backend()
    got, want = (State.identity(x.shape[1], measures=measures) for _ in range(2))
    for _ in range(times):
        fold(backend, x, 1, ALL, got)
        fold(REFERENCE, x, 1, ALL, want)
    compare(stub, got, want, x.dtype)
    return got


def compare(stub: StubDriver, got: State, want: State, dtype: torch.dtype) -> None:
    assert_equal_states(got, want, ACCURACY[dtype])
    assert_equal_requested(got, want, ACCURACY[dtype])
    assert stub.errors == []
    assert all(launch.report.findings == [] for launch in stub.launches)


@pytest.mark.parametrize(("kernel", "dtype"), CASES, ids=lambda c: str(c).removeprefix("torch."))
def test_every_kernel(stub: StubDriver, kernel: str, dtype: torch.dtype) -> None:
    x = edged(TENSORS[kernel](dtype))
    assert kernel_of(host_backend(), x) == kernel
    stub.order = "random"
    turn = CASES.index((kernel, dtype))
    check(stub, x, all_of(("layer", "channel")[turn % 2], (4, 0, 2)[turn % 3]), times=2)


@pytest.mark.parametrize("resolution", [1, 6])
@pytest.mark.parametrize("kernel", ["rows", "rows_warp", "columns", "columns_one"])
def test_histograms_of_channels(stub: StubDriver, kernel: str, resolution: int) -> None:
    """In shared memory, of narrower tiles where need be; else in the state itself."""
    check(stub, edged(TENSORS[kernel](torch.float32)), bins_of("channel", resolution))


@pytest.mark.parametrize(
    "measures", [Measures.of("abs"), Measures.of("kurtosis"), all_of("layer", 6)]
)
def test_some_of_what_can_be_asked_for(stub: StubDriver, measures: Measures) -> None:
    for kernel in ("rows_warp", "columns"):
        check(stub, edged(TENSORS[kernel](torch.float16)), measures)


@pytest.mark.parametrize("scope", ["layer", "channel"])
@pytest.mark.parametrize("kernel", nvrtc.GROUPED)
def test_groups(stub: StubDriver, kernel: str, scope: str) -> None:
    x, dim = GROUPED[kernel](torch.float32)
    numbers, backend, measures = numbers_of(edged(x), dim, "all"), host_backend(), all_of(scope, 3)
    channels = 3 * x.shape[dim]
    got, want = (State.identity(channels, measures=measures, groups=3) for _ in range(2))
    for each, state in ((backend, got), (REFERENCE, want)):
        measure(each, x, dim, numbers, state=state)
    compare(stub, got, want, x.dtype)


@pytest.mark.parametrize("kernel", ["rows", "columns"])
def test_any_order_gives_the_same_bits(stub: StubDriver, kernel: str) -> None:
    shape = {"rows": (2, 2, 20000), "columns": (3001, 8)}[kernel]
    x, states = with_edges(shape, torch.float32), []
    for stub.order, stub.blocks_at_once, stub.seed in (
        *[("forward", 1, 0), ("reverse", None, 0), ("random", 3, 2)],
    ):
        state = State.identity(x.shape[1], measures=all_of())
        fold(host_backend(multiprocessors=60), x, 1, ALL, state)
        states.append(state)
    assert stub.launches[0].args.splits > 2
    for state in states[1:]:
        assert torch.equal(state.words, states[0].words)
        assert torch.equal(state.bins, states[0].bins)  # type: ignore[arg-type]


def test_a_stream_in_parts(stub: StubDriver) -> None:
    """Histograms add exactly, moments up to rounding, however the data came."""
    x = with_edges((24, 6, 32), torch.float32)
    whole = check(stub, x, all_of("channel"))
    parts = State.identity(6, measures=whole.measures)
    for batch in (x[:1], x[1:5], x[5:]):
        fold(host_backend(), batch, 1, ALL, parts)
    compare(stub, parts, whole, x.dtype)


SKEWED: dict[str, Callable[[Tensor], Tensor]] = {
    "far": lambda z: 1e4 + z,
    "skewed": lambda z: 1e4 + z.exp(),
    "heavy": lambda z: z**3,
    "light": lambda z: torch.where(z > 0, 1.0, -1.0) + 1e-3 * z,
}


@pytest.mark.parametrize("kind", SKEWED)
@pytest.mark.parametrize("kernel", ["rows_warp", "columns"])
def test_accuracy(stub: StubDriver, kernel: str, kind: str) -> None:
    """Also of sums that cancel, which are made once more about another pivot."""
    backend, measures = host_backend(), Measures.of("kurtosis")
    got, want = (State.identity(8, measures=measures) for _ in range(2))
    for shift in (0.0, 1e5, 0.0):
        x = shift + SKEWED[kind](torch.randn(8, 8, 16))
        x = x if kernel == "rows_warp" else x.movedim(1, 2).flatten(0, 1).contiguous()
        assert kernel_of(backend, x) == kernel
        fold(backend, x, 1, PLAIN, got)
        fold(REFERENCE, x, 1, PLAIN, want)
    compare(stub, got, want, torch.float32)


def test_a_constant_has_no_moments(stub: StubDriver) -> None:
    """Nor where its sums are about a pivot that knows nothing of it."""
    x = torch.full((2, 3, 640), torch.nan)
    x[1, :, 7] = 1000.1  # no sample
    state = check(stub, x, Measures.of("kurtosis"))
    assert (state["m3"].tolist(), state["m4"].tolist()) == ([0.0] * 3, [0.0] * 3)


@pytest.mark.parametrize("scope", ["layer", "channel"])
@pytest.mark.parametrize("kernel", ["rows", "rows_warp", "ragged_warp", "columns"])
def test_every_byte_is_read_once(stub: StubDriver, kernel: str, scope: str) -> None:
    shape = {"rows": (4, 3, 64, 256), "columns": (8192, 64), "rows_warp": (4, 24, 16, 16)}
    x = torch.randn(shape.get(kernel, (5, 9, 7, 7)))
    stub.count_bytes = True
    meter = host_backend(multiprocessors=2).meter(
        State.identity(x.shape[1], measures=all_of(scope)), ALL
    )
    for _ in range(2):
        meter.update(x, view_of(x, 1))
    report = stub.launches[1].report
    assert (report.load_counts("x") == 1).all()
    assert set(report.stores) <= {"state", "parts"}
    assert set(report.atomics) <= {"tickets", "bins"}
    assert report.atomics["bins"].bytes < 0.8 * 8 * x.numel()  # for each bin, not each element


def test_a_closed_gate_counts_nothing(stub: StubDriver, cuda: HostCudaBackend) -> None:
    x, clock, measures = torch.randn(2, 3, 64), cuda_host.some_clock(), all_of()
    state = State.identity(3, measures=measures)
    meter = cuda.meter(state, PLAIN, clock)
    meter.update(x, view_of(x, 1))
    before = state.clone()
    with stub.capturing(cuda.runtime) as graph:
        meter.update(x, view_of(x, 1))
    graph.replay()
    assert torch.equal(state.words, before.words)
    assert torch.equal(state.bins, before.bins)  # type: ignore[arg-type]
    clock.set("phase", 0)
    graph.replay()
    assert torch.equal(state.bins, 2 * before.bins)  # type: ignore[operator, arg-type]
    assert state.replayed == 1


@pytest.mark.parametrize("masked", [False, True])
def test_a_tracker(stub: StubDriver, cuda: HostCudaBackend, masked: bool) -> None:
    """From the hook, through the native plan, to what is derived."""
    batches = [torch.randn(4, 6, 16) for _ in range(3)]
    asked: dict[str, Any] = {"measure": ("abs", "kurtosis", "histogram"), "channel_dim": 2}
    asked["histogram"] = "channel" if masked else "layer"
    mask = torch.arange(6) < torch.tensor([[1], [2], [6], [4]]) if masked else torch.ones(4, 6) > 0
    found = []
    for backend in ("cuda", "reference"):
        model = nn.Tanh()
        with fmstats.track(model, backend=backend, **asked) as tracker, tracker.positions(mask):
            for batch in batches:
                model(batch)
        found.append(tracker.stats()["(model)"])
    got, want = found
    assert stub.launches
    for name in ("mean_abs", "kurtosis", "skewness", "median"):
        assert getattr(got, name) == pytest.approx(getattr(want, name), rel=1e-6)
    assert torch.equal(got.state.bins, want.state.bins)


def plan(shape: tuple[int, ...], dim: int, dtype: torch.dtype, measures: Measures) -> Any:
    native = host_backend().native
    assert native is not None
    view = view_of(torch.empty(shape, dtype=dtype, device="meta"), dim)
    code = native.DTYPES.index(str(dtype).removeprefix("torch."))
    asked = Asked.of(measures)
    return native.CudaLaunch(code, 0, view.channels, view.channel_stride, view.dims, 132, asked)


@pytest.mark.parametrize(
    ("shape", "dim", "dtype"),
    [
        ((4097, 1, 2**20), 1, torch.float32),
        ((1, 2, 2**36), 1, torch.float8_e4m3fn),
        ((2**33, 512), 1, torch.float8_e5m2),
        ((2**33, 511), 1, torch.float16),
    ],
)
def test_no_count_of_a_block_overflows(
    shape: tuple[int, ...], dim: int, dtype: torch.dtype
) -> None:
    """It has fewer than 2^31 elements, all of which one bin may count."""
    launch = plan(shape, dim, dtype, all_of())
    x, y = launch.grid
    assert torch.Size(shape).numel() / (x * y) < 2**31
    assert y < 2**16


def test_no_kernel_has_such_histograms() -> None:
    native = host_backend().native
    assert native is not None
    for asked in ((False, 3, 4), (False, 1, 7), (False, -1, 0)):
        with pytest.raises(ValueError, match="no kernel has such histograms"):
            native.CudaLaunch(0, 0, 4, 4, ((8, 1),), 132, asked)


def test_what_nobody_asks_for_is_compiled_for_nobody() -> None:
    assert NOTHING.options == []
    assert Asked.of(Measures()) == NOTHING
    assert Asked.of(Measures(bins=Bins("channel", 3))) == (False, 2, 3)
    assert plan((8, 4, 9), 1, torch.float32, Measures()).parts_words == 0
