"""What is special to the C++ kernels: instruction sets, threads, sizes, the processor's modes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from fmstats.backends.cpu import CpuBackend
from fmstats.errors import FmstatsError
from fmstats.layout import view_of
from fmstats.statistic import State, Thresholds

pytestmark = pytest.mark.skipif(
    CpuBackend().why_not() is not None, reason="the native module is not built"
)
ISAS = CpuBackend().isas


@pytest.fixture(params=ISAS)
def cpu(request: pytest.FixtureRequest) -> CpuBackend:
    return CpuBackend(request.param)


def measure(cpu: CpuBackend, x: Tensor, channel_dim: int = 1, times: int = 1) -> State:
    state = State.identity(x.shape[channel_dim])
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
    "shape", [(4, 64, 56, 56), (2, 3, 300, 301), (1, 1, 700, 900), (9, 600, 7, 7)]
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


def test_subnormals_are_not_zero_even_when_the_processor_flushes_them(cpu: CpuBackend) -> None:
    x = torch.full((2, 20, 9, 9), 1e-42)
    x[0, :, 0, 0] = 0
    for memory in (torch.contiguous_format, torch.channels_last):
        y = x.contiguous(memory_format=memory)
        if not torch.set_flush_denormal(True):
            pytest.skip("this processor cannot flush subnormals")
        try:
            state = measure(cpu, y)
        finally:
            torch.set_flush_denormal(False)
        assert state["zeros"].tolist() == [1] * 20
        assert state["max"][0].item() == x[0, 0, 1, 1].double().item()
        assert state["m2"][0].item() > 0


def test_the_processor_mode_is_given_back(cpu: CpuBackend) -> None:
    tiny = torch.full((4,), 1e-42)
    torch.set_flush_denormal(True)
    try:
        measure(cpu, torch.randn(2, 3, 4))
        assert (tiny * 1).eq(0).all()
    finally:
        torch.set_flush_denormal(False)


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


def test_unknown_instruction_set() -> None:
    with pytest.raises(FmstatsError, match=r"instruction set 'sse9' is not usable .* baseline"):
        CpuBackend("sse9")


def test_the_native_module_refuses_what_it_cannot_do() -> None:
    native = CpuBackend()._native
    good = [len(ISAS), 0, 0, 0, 0, ((1, 1),), 0, 0, 0.0, 0.0, 0.0, 1]
    for place, value, text in (
        (0, 99, "instruction set 99"),
        (1, 77, "dtype code 77"),
        (5, (), "1 to 64 dims, not 0"),
    ):
        bad = [*good]
        bad[0] = native.cpu_isas().index(next(i for i in native.cpu_isas() if i[2]))
        bad[place] = value
        with pytest.raises(ValueError, match=text):
            native.cpu_accumulate(*bad)
