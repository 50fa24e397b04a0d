"""The PTX of the Triton kernels computes the statistic, reads every byte once, and stores no more.

Triton compiles for GPUs that are absent; the interpreter of tests/ptx runs what it emits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import triton_host
from csrc_constants import SAMPLES
from samples import make
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor
from triton_host import ARCHS, PtxBackend, host_backend

from fmstats.backends import DTYPES
from fmstats.backends.cpu import CpuBackend
from fmstats.backends.reference import ReferenceBackend
from fmstats.backends.triton.plan import plan
from fmstats.statistic.fields import FIELDS, PART_FIELDS
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

pytestmark = triton_host.needs_triton

PLAIN, UPPER = Thresholds(), Thresholds(high=1.0)
ALL = Thresholds(zero_tol=0.1, low=-0.5, high=1.0)
KERNELS = ("rows", "columns", "strided")
SECTOR = 32  # bytes: what memory is read in
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
every_kernel = pytest.mark.parametrize("kernel", KERNELS)

# Data whose layout the kernel is chosen for, channels in dim 1; `n` makes it longer.
TENSORS: dict[str, Callable[[str, int, torch.dtype], Tensor]] = {
    "rows": lambda kind, n, t: make(kind, (3, 5, 16 * n), t),
    "columns": lambda kind, n, t: make(kind, (8 * n, 48), t),
    "strided": lambda kind, n, t: make(kind, (3, 2, 9, n, 8), t).transpose(2, 4)[..., ::2, :],
}


def fold(backend: object, x: Tensor, thresholds: Thresholds, state: State | None = None) -> State:
    view = view_of(x, 1)
    state = State.identity(view.channels) if state is None else state
    backend.accumulate(state, x, view, thresholds)  # type: ignore[attr-defined]
    return state


def kernel_of(x: Tensor) -> str:
    return plan(view_of(x, 1), x.data_ptr(), x.itemsize, x.shape[1]).layout.kernel


def check(backend: PtxBackend, x: Tensor, thresholds: Thresholds) -> State:
    """The state of a tensor, once it is known to be right and nothing was found on the way."""
    got = fold(backend, x, thresholds)
    assert_equal_states(got, fold(ReferenceBackend(), x, thresholds), ACCURACY[x.dtype])
    for run in backend.ptx.runs:
        assert (run.measure.findings, run.fold.findings) == ([], [])
    return got


def test_every_field_has_its_row() -> None:
    from fmstats.backends.triton.kernels import words

    for field in FIELDS:
        assert getattr(words, field.upper()).value == FIELDS.index(field)
    for field in PART_FIELDS:
        assert getattr(words, f"PART_{field.upper()}").value == PART_FIELDS.index(field)


@every_kernel
@every_dtype
@pytest.mark.parametrize("arch", ARCHS)
def test_every_kernel_for_every_gpu(arch: str, dtype: torch.dtype, kernel: str) -> None:
    x = TENSORS[kernel]("nan and inf", 25, dtype)
    assert kernel_of(x) == kernel
    for thresholds in (ALL, PLAIN, UPPER) if arch == "90" else (ALL,):
        check(host_backend(arch), x, thresholds)
        check(host_backend(arch), TENSORS[kernel]("normal", 25, dtype), thresholds)


@every_kernel
def test_programs_in_any_order_give_the_same_bits(kernel: str) -> None:
    x = TENSORS[kernel]("normal", 400, torch.float32)
    orders = [("forward", None, 0), ("reverse", 1, 0), ("random", 1, 1), ("random", 7, 2)]
    states = []
    for order, at_once, seed in orders:
        backend = host_backend(block_order=order, at_once=at_once, seed=seed)
        states.append(check(backend, x, ALL))
        assert backend.ptx.runs[0].launch.parts[0] > 2 * 11
    assert all(torch.equal(state.words, states[0].words) for state in states)


@every_dtype
@every_kernel
def test_every_byte_is_read_once(kernel: str, dtype: torch.dtype) -> None:
    """Of a second tensor into a state: the first one's pivots come from samples."""
    x = TENSORS[kernel]("relu", 160, dtype)
    backend = host_backend(count_bytes=True)
    state = fold(backend, x, ALL)
    fold(backend, x, ALL, state)
    first, second = backend.ptx.runs
    read = second.measure.load_counts("x")
    assert read.max() == 1
    assert read.sum() == x.numel() * x.itemsize
    sectors = x.numel() * x.itemsize / SECTOR
    if kernel != "strided":
        assert second.measure.loads["x"].sectors == sectors
    programs = first.launch.programs
    across = max(1, first.launch.layout.width * x.itemsize // SECTOR)
    samples = SAMPLES * across * 4 * programs  # each of 4 warps asks for all of them
    assert first.measure.loads["x"].sectors <= second.measure.loads["x"].sectors + samples
    assert "x" not in second.fold.loads


@every_kernel
def test_stores_are_of_parts_and_state_alone(kernel: str) -> None:
    x = TENSORS[kernel]("normal", 160, torch.float32)
    backend = host_backend()
    fold(backend, x, ALL)
    (run,) = backend.ptx.runs
    stretches, channels = run.launch.parts[0] // 11, x.shape[1]
    assert set(run.measure.stores) == {"parts"}
    assert run.measure.stores["parts"].bytes == 8 * 11 * channels * stretches
    assert set(run.fold.stores) == {"state"}
    assert run.fold.stores["state"].bytes == 8 * 11 * channels
    assert not run.measure.atomics
    assert not run.fold.atomics


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_kernel
def test_bad_values_spoil_their_own_stretch_and_no_other(kernel: str, dtype: torch.dtype) -> None:
    x = TENSORS[kernel]("normal", 2000, dtype)
    flat = x.flatten()
    flat[:: len(flat) // 3] = math.inf
    flat[5 :: len(flat) // 2] = math.nan
    x.copy_(flat.view(x.shape))
    check(host_backend(), x, ALL)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_runs_of_every_length_and_alignment(dtype: torch.dtype) -> None:
    backend, places = host_backend(), 16 // dtype.itemsize
    for length in (1, 2, places - 1, places, places + 1, 2 * places + 3, 49, 300):
        store = make("normal", (6 * length + places,), dtype)
        for offset in range(0, places, max(1, places // 4)):
            check(backend, store[offset : offset + 6 * length].view(2, 3, length), ALL)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float8_e5m2])
def test_columns_of_every_width_and_alignment(dtype: torch.dtype) -> None:
    backend, places = host_backend(), 16 // dtype.itemsize
    for channels in (3, places, places + 1, 33 * places):
        store = make("normal", (37 * channels + places,), dtype)
        for offset in (0, 1):
            check(backend, store[offset : offset + 37 * channels].view(37, channels), ALL)


@every_kernel
def test_slots_beyond_2_31(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The 64-bit way of the kernels, on a tensor that is none too large to run."""

    def far(*arguments: object) -> object:
        launch = plan(*arguments)  # type: ignore[arg-type]
        return replace(launch, layout=replace(launch.layout, narrow=False))

    monkeypatch.setattr("fmstats.backends.triton.meter.plan", far)
    backend = host_backend()
    check(backend, TENSORS[kernel]("nan and inf", 25, torch.float32), ALL)
    assert not backend.ptx.runs[0].launch.layout.narrow


@every_kernel
def test_squares_that_underflow_are_measured_again(kernel: str) -> None:
    check(host_backend(), TENSORS[kernel]("tiny", 25, torch.float32) * 0.1, PLAIN)


@every_kernel
def test_samples_make_a_pivot_that_serves(kernel: str) -> None:
    """The first tensor of a layer, far from zero, is not measured twice."""
    backend = host_backend()
    check(backend, TENSORS[kernel]("normal", 160, torch.float32) + 1000, PLAIN)
    assert "x" not in backend.ptx.runs[0].fold.loads


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_kernel
def test_a_jump_in_scale_is_measured_again(kernel: str, dtype: torch.dtype) -> None:
    """A running mean that is no use as pivot: the sums cancel, the channel is read again."""
    backend = host_backend(count_bytes=True)
    x = TENSORS[kernel]("normal", 25, dtype)
    state, want = State.identity(x.shape[1]), State.identity(x.shape[1])
    for batch in (x, x + 1e6, x):
        fold(backend, batch, PLAIN, state)
        want.merge_(fold(ReferenceBackend(), batch, PLAIN))
    assert_equal_states(state, want, ACCURACY[dtype])
    read = [("x" in run.fold.loads) for run in backend.ptx.runs]
    assert read[:2] == [False, True]


def test_thousands_of_stretches() -> None:
    x = make("nan and inf", (1, 1, 2_500_000), torch.float32)
    backend = host_backend()
    check(backend, x, ALL)
    assert backend.ptx.runs[0].launch.parts[0] > 128 * 11  # more than `fold` adds up at once


def test_nothing_is_read_beyond_a_slice() -> None:
    """The interpreter maps what a view spans and not a byte more."""
    store = torch.randn(7, 9, 50)
    for x in (store[1:, 2:, 3:], store[:, :, 1:49], store[:6, 1:3], store[2:3, :, 5:6]):
        check(host_backend(), x, ALL)


@every_kernel
@every_dtype
def test_all_kernels_of_the_house_agree(dtype: torch.dtype, kernel: str) -> None:
    """cpu, cuda and triton: the same exact fields, and the reference's moments."""
    import cuda_host

    backends: list[object] = [CpuBackend(), host_backend()]
    if cuda_host.why_not() is None:
        cuda_host.the_stub().reset()
        backends.append(cuda_host.host_backend())
    for kind in ("relu", "nan and inf", "large mean", "negative zero"):
        x = TENSORS[kernel](kind, 25, dtype)
        want = fold(ReferenceBackend(), x, ALL)
        for backend in backends:
            assert_equal_states(fold(backend, x, ALL), want, ACCURACY[dtype])
