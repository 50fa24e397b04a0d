"""The CUDA kernels compute the statistic: their real PTX, run against the reference.

`test_laws.py` and `test_nist.py` run them too, as backend "cuda-interpreted".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cuda_host
import pytest
import torch
from cuda_host import ALL, ARCHS, PLAIN, CudaArgs, StubDriver, fold, host_backend, kernel_of
from samples import make
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor

from fmstats.backends import DTYPES
from fmstats.backends.cuda import nvrtc
from fmstats.backends.reference import ReferenceBackend
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds

pytestmark = cuda_host.needs_nvrtc

REFERENCE = ReferenceBackend()
UPPER = Thresholds(high=1.0)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
every_kernel = pytest.mark.parametrize("kernel", nvrtc.KERNELS)

# Data whose layout the kernel is chosen for; channels in dim 1.
TENSORS: dict[str, Callable[[torch.dtype], Tensor]] = {
    "rows": lambda t: make("nan and inf", (3, 2, 6400), t),
    "rows_warp": lambda t: make("nan and inf", (3, 10, 64), t),
    "ragged": lambda t: make("nan and inf", (9, 2, 1151), t),
    "ragged_warp": lambda t: make("nan and inf", (5, 9, 49), t),
    "strided": lambda t: make("nan and inf", (3, 2, 9, 7, 31), t).transpose(2, 4)[:, :, ::2],
    "strided_warp": lambda t: make("nan and inf", (3, 4, 9, 11), t)[..., ::2],
    "columns": lambda t: make("nan and inf", (150, 48), t),
    "columns_one": lambda t: make("nan and inf", (70, 5, 45), t).movedim(2, 1),
}


def check(
    stub: StubDriver, backend: cuda_host.CudaBackend, x: Tensor, thresholds: Thresholds
) -> State:
    """The state of a tensor, once it is known to be right and nothing was found on the way."""
    got = fold(backend, x, 1, thresholds)
    want = fold(REFERENCE, x, 1, thresholds)
    assert_equal_states(got, want, ACCURACY[x.dtype])
    assert stub.errors == []
    assert [launch.report.findings for launch in stub.launches] == [[]] * len(stub.launches)
    return got


@every_kernel
@every_dtype
@pytest.mark.parametrize("arch", ARCHS)
def test_every_kernel_for_every_gpu(
    stub: StubDriver, arch: str, dtype: torch.dtype, kernel: str
) -> None:
    backend = host_backend(arch)
    x = TENSORS[kernel](dtype)
    assert kernel_of(backend, x) == kernel
    stub.order = "random"
    for thresholds in (ALL, PLAIN, UPPER) if arch == "90" else (ALL,):
        check(stub, backend, x, thresholds)


@pytest.mark.parametrize("kernel", ["rows", "ragged", "strided", "columns", "columns_one"])
def test_splits_in_any_order_give_the_same_bits(stub: StubDriver, kernel: str) -> None:
    """Blocks one by one or together, forward, backward or at random: tickets decide who is last."""
    backend = host_backend(multiprocessors=200)
    shapes = {
        **{"rows": (2, 2, 40000), "ragged": (2, 2, 40001), "strided": (3, 1, 60001)},
        **{"columns": (20001, 8), "columns_one": (6001, 7)},
    }
    x = make("normal", shapes[kernel], torch.float32)
    x = x[..., ::2] if kernel == "strided" else x
    assert kernel_of(backend, x) == kernel
    states = [check(stub, backend, x, ALL)]
    splits, groups = stub.launches[0].args.splits, stub.launches[0].args.groups
    assert splits > 2
    assert (groups > 1) == kernel.startswith("columns")
    for stub.order, stub.blocks_at_once, stub.seed in (
        *[("forward", 1, 0), ("reverse", 1, 0), ("reverse", None, 0)],
        *[("random", 1, 1), ("random", 7, 2), ("random", None, 3)],
    ):
        states.append(check(stub, backend, x, ALL))
    assert all(torch.equal(state.words, states[0].words) for state in states)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", ["rows", "ragged", "strided", "columns", "columns_one"])
def test_many_chunks_a_thread(stub: StubDriver, kernel: str, dtype: torch.dtype) -> None:
    """Far apart: NaN and infinities spoil their own chunk and no other."""
    shapes = {
        **{"rows": (3, 1, 400000), "ragged": (3, 1, 400001), "strided": (3, 1, 400002)},
        **{"columns": (40000, 8), "columns_one": (40000, 7)},
    }
    x = make("normal", shapes[kernel], dtype)
    x.view(-1)[:: x.numel() // 3] = math.inf
    x.view(-1)[5 :: x.numel() // 2] = math.nan
    x = x[..., ::2] if kernel == "strided" else x
    backend = host_backend(multiprocessors=1)
    assert kernel_of(backend, x) == kernel
    check(stub, backend, x, ALL)


@every_kernel
def test_tickets_are_left_as_they_were(stub: StubDriver, kernel: str) -> None:
    """A second launch finds them at 0, as a replayed graph does."""
    backend = host_backend(multiprocessors=200)
    x = TENSORS[kernel](torch.float32)
    state = State.identity(x.shape[1])
    meter = backend.meter(state, ALL, cuda_host.some_clock())
    for _ in range(3):
        stub.order = "random"
        meter.update(x, cuda_host.view_of(x, 1))
        _, tickets = meter._device.workspaces.room_for(0, None, 0, 0)
        assert tickets.eq(0).all()
    want = fold(REFERENCE, x, 1, ALL)
    assert_equal_states(state, merge_of(want, 3), ACCURACY[x.dtype])


def merge_of(state: State, times: int) -> State:
    whole = State.identity(state.channels)
    for _ in range(times):
        whole.merge_(state)
    return whole


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_runs_of_every_length_and_alignment(stub: StubDriver, dtype: torch.dtype) -> None:
    backend = host_backend()
    places = 16 // dtype.itemsize
    for length in (1, 2, places - 1, places, places + 1, 2 * places, 2 * places + 3, 49, 300):
        store = make("normal", (2 * 3 * length + places,), dtype)
        for offset in range(0, places, max(1, places // 4)):
            x = store[offset : offset + 6 * length].view(2, 3, length)
            check(stub, backend, x, ALL)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float8_e5m2])
def test_columns_of_every_width_and_alignment(stub: StubDriver, dtype: torch.dtype) -> None:
    backend = host_backend()
    places = 16 // dtype.itemsize
    for channels in (2, 3, places, places + 1, 3 * places, 33 * places, 70):
        store = make("normal", (37 * channels + places,), dtype)
        for offset in (0, 1, places // 2):
            x = store[offset : offset + 37 * channels].view(37, channels)
            check(stub, backend, x, ALL)


@every_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_positions_beyond_2_31(stub: StubDriver, dtype: torch.dtype, kernel: str) -> None:
    """The 64-bit way of the kernels, on a tensor that is none too large to run."""

    def far(args: CudaArgs) -> None:
        args.narrow = 0
        for d in range(cuda_host.MAX_DIMS):
            args.by[d].multiplier = 0  # and if it were used all the same, nothing would be right
        args.by_run_places.multiplier = 0

    stub.change = far
    check(stub, host_backend(), TENSORS[kernel](dtype), ALL)


def test_a_bad_element_at_every_place(stub: StubDriver) -> None:
    """A NaN or infinity anywhere in a run: its vectors, its ends, the border of a chunk."""
    backend = host_backend()
    for n in (1, 3, 15, 33):
        for place in range(n):
            x = torch.ones(2, 1, n)
            x[1, 0, place] = math.nan if place % 2 else -math.inf
            state = check(stub, backend, x, PLAIN)
            assert (state["nan"] + state["neg_inf"]).item() == 1
            assert (state["mean"].item(), state["m2"].item()) == (1.0, 0.0)


@every_kernel
def test_squares_that_underflow_are_measured_again(stub: StubDriver, kernel: str) -> None:
    x = TENSORS[kernel](torch.float32)
    x.copy_(torch.where(x.isfinite(), x * 1e-21, x))
    check(stub, host_backend(), x, PLAIN)


@pytest.mark.parametrize("kernel", ["rows_warp", "columns"])
def test_a_jump_in_scale_is_measured_again(stub: StubDriver, kernel: str) -> None:
    """A running mean that is no use as pivot: the sums cancel, and the tensor is read once more."""
    backend, state, whole = host_backend(), State.identity(8), State.identity(8)
    for batch in (torch.randn(4, 8, 16), 1e6 + torch.randn(40, 8, 16), torch.randn(4, 8, 16)):
        x = batch if kernel == "rows_warp" else batch.movedim(1, 2).flatten(0, 1).contiguous()
        assert kernel_of(backend, x) == kernel
        fold(backend, x, 1, PLAIN, state)
        whole.merge_(fold(REFERENCE, x))
    assert_equal_states(state, whole, ACCURACY[torch.float32])


@every_kernel
def test_a_nan_that_reads_as_a_number(stub: StubDriver, kernel: str) -> None:
    """float8_e4m3fn's passes for 480 at first: every threshold that this meets is taken back."""
    x = TENSORS[kernel](torch.float8_e4m3fn)
    assert fold(REFERENCE, x)["nan"].all()
    check(stub, host_backend(), x, Thresholds(zero_tol=1000.0, low=500.0, high=-500.0))


def test_nothing_is_read_beyond_a_slice(stub: StubDriver) -> None:
    """The interpreter maps what a view spans and not a byte more."""
    store = torch.randn(7, 9, 50)
    for x in (store[1:, 2:, 3:], store[:, :, 1:49], store[:6, 1:3], store[2:3, :, 5:6]):
        check(stub, host_backend(), x, ALL)
