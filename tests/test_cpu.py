"""What is special to the C++ kernels: instruction sets, threads, sizes, the processor's modes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from samples import KINDS, LAYOUTS, make, seeded
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor

from fmstats.backends import DTYPES
from fmstats.backends.cpu import CpuBackend
from fmstats.backends.reference import ReferenceBackend
from fmstats.errors import FmstatsError
from fmstats.statistic.clock import Clock
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

pytestmark = pytest.mark.skipif(
    CpuBackend().why_not() is not None, reason="the native module is not built"
)
ISAS = CpuBackend().isas


@pytest.fixture(params=ISAS)
def cpu(request: pytest.FixtureRequest) -> CpuBackend:
    return CpuBackend(request.param)


def measure(
    cpu: CpuBackend, x: Tensor, channel_dim: int = 1, times: int = 1, onto: State | None = None
) -> State:
    state = State.identity(x.shape[channel_dim]) if onto is None else onto.clone()
    for _ in range(times):
        cpu.accumulate(state, x, view_of(x, channel_dim), Thresholds())
    return state


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "shape",
    [
        *[(4, 64, 56, 56), (2, 3, 300, 301), (1, 1, 700, 900), (9, 600, 7, 7)],
        *[(1, 20_011, 1, 1), (31, 9_001, 1, 1), (130, 4_500, 1, 1)],
    ],
)
def test_bits_do_not_depend_on_threads(
    cpu: CpuBackend, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    for memory in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(shape).to(dtype).contiguous(memory_format=memory)
        states = []
        for n in (1, 2, 5):
            with threads(n):
                states.append(measure(cpu, x, times=2).words)
        assert torch.equal(states[0], states[1])
        assert torch.equal(states[0], states[2])


@contextmanager
def flushing() -> Iterator[None]:
    """A processor that takes subnormals for zeros, in this thread and those that it begins."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def in_a_new_thread(work: Callable[[], object]) -> None:
    """OpenMP gives it threads of its own, made when they are first needed."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


@pytest.mark.parametrize("size", [2, 9, 70], ids=["few", "one task", "in parallel"])
def test_subnormals_are_not_zero_even_when_the_processor_flushes_them(
    cpu: CpuBackend, size: int
) -> None:
    x = torch.full((4, 20, size, size), 1e-42)
    x[0, :, 0, 0] = 0
    before, smallest, states = torch.get_num_threads(), x.max().double().item(), []
    formats = [torch.contiguous_format, torch.channels_last]
    tensors = [x.contiguous(memory_format=memory) for memory in formats]
    one_each = torch.full((4 * 2**20,), 1e-42)  # much for every thread

    def work() -> None:
        with flushing(), threads(4):
            products = one_each * 1
            states.extend(measure(cpu, y) for y in tensors)
        torch.set_num_threads(before)
        assert not products.view(torch.int32).any()  # so every thread does flush

    in_a_new_thread(work)
    assert len(states) == 2
    for state in states:
        assert state["zeros"].tolist() == [1] * 20
        assert state["max"].tolist() == [smallest] * 20
        assert (state["m2"] > 0).all()


def test_the_processor_mode_is_given_back(cpu: CpuBackend) -> None:
    tiny = torch.full((4,), 1e-42)
    with flushing():
        measure(cpu, torch.randn(2, 3, 4))
        assert (tiny * 1).eq(0).all()


# Of some tasks for every thread: many positions, and more channels than a task takes.
LARGE = {"long": (2, 20, 181, 197), "wide": (3, 281, 20, 21)}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize(
    ("layout", "shape"),
    [(layout, "wide") for layout in ("contiguous", "channels last", "every other")]
    + [("contiguous", "long"), ("channels last", "long")],
)
def test_every_kind_of_data_in_many_tasks(dtype: torch.dtype, layout: str, shape: str) -> None:
    rng = seeded("large", dtype, layout, shape)
    n, channels, *size = LARGE[shape]
    kinds = [list(KINDS)[c % len(KINDS)] for c in range(channels)]
    columns = [make(kind, (n, 1, *size), dtype).double() for kind in kinds]
    x, dim = LAYOUTS[layout](torch.cat(columns, 1).to(dtype))
    view, want = view_of(x, dim), State.identity(channels)
    thresholds, clock = Thresholds(rng.choice([0.0, 0.1]), rng.choice([None, -0.5]), 1.0), Clock()
    clock.set("first_pass", 3)
    with threads(1):
        ReferenceBackend().accumulate(want, x, view, thresholds, clock)
    for isa in ISAS:
        got = State.identity(channels)
        with threads(3):
            CpuBackend(isa).accumulate(got, x, view, thresholds, clock)
        assert_equal_states(got, want, ACCURACY[dtype], isa)


def test_more_than_2_31_elements_in_a_channel(cpu: CpuBackend) -> None:
    base = torch.arange(2**20, dtype=torch.float32).remainder(8).view(1, 1, -1)
    x = base.expand(2049, 1, 2**20)
    state = measure(cpu, x)
    n = 2049 * 2**20
    assert n > 2**31
    assert state["count"].item() == n
    assert state["zeros"].item() == n // 8
    assert state["mean"].item() == pytest.approx(3.5, rel=1e-12)
    assert state["m2"].item() == pytest.approx(5.25 * n, rel=1e-9)


def test_more_than_2_33_zeros_in_a_channel() -> None:
    """Counts of parts, and numbers of elements that no 32-bit word holds."""
    x = torch.zeros(1, 1, 2**20).expand(2**13 + 1, 1, 2**20)
    state = measure(CpuBackend(), x)
    n = 2**33 + 2**20
    assert (state["count"].item(), state["zeros"].item()) == (n, n)
    assert (state["mean"].item(), state["m2"].item()) == (0.0, 0.0)


def test_more_than_2_31_elements_in_columns(cpu: CpuBackend) -> None:
    base = torch.arange(64.0).expand(2**13, 64).contiguous().view(1, 2**13, 64)
    x = base.expand(4097, 2**13, 64)
    assert x.numel() > 2**31
    state = measure(cpu, x, channel_dim=2)
    assert state["count"].tolist() == [4097 * 2**13] * 64
    assert state["mean"].tolist() == list(range(64))
    assert state["m2"].tolist() == [0.0] * 64
    assert state["zeros"].tolist() == [4097 * 2**13, *[0] * 63]


def test_offsets_beyond_2_31_elements(cpu: CpuBackend) -> None:
    # Only the pages that the view touches are ever given memory.
    far = torch.empty(2**31 + 2**21, dtype=torch.uint8).view(torch.float8_e4m3fn)
    x = far[:: 2**20].view(-1, 1)
    x.copy_(torch.ones(len(x), 1))
    x[-1] = 2.0
    assert x.stride(0) * (len(x) - 1) > 2**31
    for dim, count in ((1, len(x)), (0, 1)):
        state = measure(cpu, x, channel_dim=dim)
        assert state["count"][0].item() == count
        assert state["max"].max().item() == 2.0
        assert state["zeros"].sum().item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_unaligned_data(cpu: CpuBackend, dtype: torch.dtype) -> None:
    x = torch.randn(3, 5, 77).to(dtype)
    store = torch.empty(x.numel() + 9, dtype=dtype)
    want = measure(cpu, x)
    for offset in range(1, 9):
        moved = store[offset : offset + x.numel()].view(x.shape)
        moved.copy_(x)
        assert torch.equal(measure(cpu, moved).words, want.words)


def test_bad_elements_at_every_place(cpu: CpuBackend) -> None:
    """A NaN or infinity anywhere in a run, its vectors, its ragged end or a block border."""
    for n in (1, 3, 15, 31, 33, 200):
        for place in range(n):
            x = torch.ones(2, 1, n)
            x[1, 0, place] = float("nan") if place % 2 else float("-inf")
            state = measure(cpu, x)
            assert (state["nan"] + state["neg_inf"]).item() == 1
            assert state["mean"].item() == 1.0
            assert state["min"].item() == 1.0
            assert state["m2"].item() == 0.0


def is_read_once(cpu: CpuBackend, x: Tensor, seen: Tensor | None = None) -> list[bool]:
    """For each channel, whether the sums of x are those of float32 lanes, which rounding shows.

    A channel whose sums were too coarse is read again, in float64.

    Args:
        cpu: what reads x.
        x: channels in dim 1.
        seen: what the state has seen before, exactly.
    """
    before, reference = State.identity(x.shape[1]), ReferenceBackend()
    if seen is not None:
        reference.accumulate(before, seen, view_of(seen, 1), Thresholds())
    exact = before.clone()
    reference.accumulate(exact, x, view_of(x, 1), Thresholds())
    return ((measure(cpu, x, onto=before)["m2"] / exact["m2"] - 1).abs() > 1e-13).tolist()


every_format = pytest.mark.parametrize(
    "memory", [torch.contiguous_format, torch.channels_last], ids=str
)


@every_format
def test_usual_data_is_read_once(cpu: CpuBackend, memory: torch.memory_format) -> None:
    """A few samples give a pivot that serves the first tensor; then the running mean does."""
    first = 3 + torch.randn(6, 67, 20, 20).contiguous(memory_format=memory)
    assert np.mean(is_read_once(cpu, first)) > 0.95
    # Few elements far from the mean, too, where the state has seen many: these move it.
    for few in (3 + torch.randn(2, 67, 9, 9), 6 + 0.1 * torch.randn(2, 67, 9, 9)):
        few = few.contiguous(memory_format=memory)
        assert np.mean(is_read_once(cpu, few, first)) > 0.95


@every_format
def test_a_pivot_two_deviations_off_is_told(cpu: CpuBackend, memory: torch.memory_format) -> None:
    few, many = 2 + 0.01 * torch.randn(1, 67, 2, 2), torch.randn(6, 67, 20, 20)
    assert not any(is_read_once(cpu, many.contiguous(memory_format=memory), few))


def test_samples_are_of_places_that_differ(cpu: CpuBackend) -> None:
    """Images with a pattern of two columns: samples of one column would miss the other."""
    columns = torch.tensor([0.0, 1.0]).repeat(8)
    x = 100 * columns + 20 * torch.randn(8, 67, 16, 16)
    assert np.mean(is_read_once(cpu, x)) > 0.9


def test_unknown_instruction_set() -> None:
    with pytest.raises(FmstatsError, match=r"instruction set 'sse9' is not usable .* baseline"):
        CpuBackend("sse9")


def test_the_native_module_refuses_what_it_cannot_do() -> None:
    native = CpuBackend()._native
    usable = next(i for i, (_, _, usable) in enumerate(native.cpu_isas()) if usable)
    good = {"isa": usable, "dtype": 0, "data": 0, "dims": ((1, 1),), "state": 0, "row": 0}
    good |= {"channels": 0, "channel_stride": 0, "thresholds": (0.0, 0.0, 0.0), "mode": 0}
    good |= {"threads": 1, "clock": 0, "numbers": 0, "number_strides": (), "groups": 1}
    good |= {"requested": (0, 0, 0, 0, 0)}
    native.cpu_accumulate(**good)
    for name, value, text in (
        ("isa", 99, "instruction set 99"),
        ("dtype", 77, "dtype code 77"),
        ("mode", 3, "mode 3 is not known"),
        ("requested", (0, 0, 0, 0, 7), "resolution 7 is not known"),
        ("dims", (), "1 to 64 dims, not 0"),
        ("numbers", 1, "a stride for each dim of the view"),
    ):
        with pytest.raises(ValueError, match=text):
            native.cpu_accumulate(**good | {name: value})
