"""How the C++ kernels take groups: by stretches of positions, or all positions and some left out.

Which of the two shows in the time alone: every test is of both.
"""

from __future__ import annotations

import math

import pytest
import torch
from samples import seeded
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor

from fmstats.backends import DTYPES
from fmstats.backends.cpu import CpuBackend
from fmstats.backends.reference import ReferenceBackend
from fmstats.statistic.clock import Clock
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import grouped_view_of

pytestmark = pytest.mark.skipif(
    CpuBackend().why_not() is not None, reason="the native module is not built"
)
THRESHOLDS = (Thresholds(), Thresholds(high=1.0), Thresholds(zero_tol=0.1, low=-0.5, high=1.0))
# Stretches of one position, of some, of about as many as decide, and longer than a run.
LENGTHS = (1, 2, 5, 8, 16, 31, 33, 70, 500)
SHAPES = ((5, 3, 24, 24), (70, 3, 5, 7), (3, 3, 2, 2000), (9, 3, 3, 1))


@pytest.fixture(params=CpuBackend().isas)
def cpu(request: pytest.FixtureRequest) -> CpuBackend:
    return CpuBackend(request.param)


def measure(
    backend: CpuBackend | ReferenceBackend,
    x: Tensor,
    numbers: Tensor,
    groups: int = 1,
    thresholds: Thresholds = THRESHOLDS[0],
    onto: State | None = None,
) -> State:
    state = State.identity(groups * x.shape[1]) if onto is None else onto.clone()
    view, positions = grouped_view_of(x, 1, numbers, groups)
    backend.accumulate(state, x, view, thresholds, Clock(), positions)
    return state


def stretches(shape: tuple[int, ...], length: int, groups: int = 1) -> Tensor:
    """Numbers of positions, which change after about so many."""
    n, _, h, w = shape
    changes = (torch.rand(n * h * w) < 1 / length).cumsum(0)
    numbers = torch.randint(0, groups + 1, (n * h * w + 1,), dtype=torch.uint8)[changes]
    return numbers.view(n, 1, h, w)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("length", LENGTHS)
def test_stretches_of_any_length(cpu: CpuBackend, dtype: torch.dtype, length: int) -> None:
    for turn, shape in enumerate(SHAPES):
        seeded("stretches", dtype, length, shape)
        x = torch.randn(shape)
        if turn % 2:
            x[torch.rand(shape) < 0.001] = math.nan
        numbers = stretches(shape, length, groups=3)
        for thresholds in THRESHOLDS:
            of = (cpu.isa, shape, thresholds)
            for laid in (x.to(dtype), x.to(dtype).mT):
                beside = numbers if laid.shape == x.shape else numbers.mT
                got = measure(cpu, laid, beside, 3, thresholds)
                want = measure(ReferenceBackend(), laid, beside, 3, thresholds)
                assert_equal_states(got, want, ACCURACY[dtype], of)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("length", LENGTHS)
def test_what_is_left_out_shows_in_no_bit(cpu: CpuBackend, dtype: torch.dtype, length: int) -> None:
    for shape in SHAPES:
        seeded("left out", dtype, length, shape)
        x, numbers = torch.randn(shape).to(dtype), stretches(shape, length)
        left_out = numbers.expand(shape) == 0
        words = []
        for junk in (0.0, math.nan, -math.inf, 1e30, 1e-40):
            x[left_out] = junk
            states = [measure(cpu, x, numbers, 1, thresholds) for thresholds in THRESHOLDS]
            words.append(torch.stack([measure(cpu, x, numbers, onto=s).words for s in states]))
        assert all(torch.equal(of_junk, words[0]) for of_junk in words[1:]), shape


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("groups", [1, 4])
def test_bits_do_not_depend_on_threads_or_on_memory(
    cpu: CpuBackend, monkeypatch: pytest.MonkeyPatch, length: int, groups: int
) -> None:
    shape = (40, 7, 33, 35)
    x, numbers = torch.randn(shape), stretches(shape, length, groups)
    wide = torch.zeros(*numbers.shape, 2, dtype=torch.uint8)
    wide[..., 1] = numbers
    want = measure(cpu, x, numbers, groups).words
    for threads in (2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for laid in (numbers, wide[..., 1], numbers.permute(3, 2, 1, 0).contiguous().mT.mT):
            laid = laid if laid.shape == numbers.shape else laid.permute(3, 2, 1, 0)
            assert torch.equal(measure(cpu, x, laid, groups).words, want)


@pytest.mark.parametrize("length", [1, 500])
def test_the_same_numbers_for_each_sample(cpu: CpuBackend, length: int) -> None:
    x = torch.randn(6, 5, 20, 20)
    one = stretches((1, 1, 20, 20), length, groups=2)
    got = measure(cpu, x, one, 2)
    assert torch.equal(got.words, measure(cpu, x, one.repeat(6, 1, 1, 1), 2).words)


def agrees(cpu: CpuBackend, x: Tensor, numbers: Tensor) -> None:
    want = measure(ReferenceBackend(), x, numbers)
    assert_equal_states(measure(cpu, x, numbers), want, ACCURACY[torch.float32])


@pytest.mark.parametrize("length", [1, 500])
def test_what_was_found_last_is_recognised_by_all_of_it(cpu: CpuBackend, length: int) -> None:
    x, numbers = torch.randn(4, 3, 9, 9), stretches((4, 3, 9, 9), length)
    for place in (0, 9, -1):
        agrees(cpu, x, numbers)
        numbers.view(-1)[place] ^= 1  # in place
        agrees(cpu, x, numbers)
    for other in (
        *(torch.randn(4, 5, 9, 9), torch.randn(4, 3, 3, 27), torch.randn(2, 3, 18, 9)),
        torch.randn(4, 9, 9, 3).permute(0, 3, 1, 2),
    ):
        agrees(cpu, other, numbers.view(len(other), 1, *other.shape[2:]))


def test_kernels_that_read_no_numbers_get_none(cpu: CpuBackend) -> None:
    """The same positions of contiguous channels and of others, one after the other."""
    store, numbers = torch.randn(4000), stretches((70, 1, 1, 1), 1)
    for channel_stride in (50, 1, 50):
        x = store.as_strided((70, 33, 1, 1), (33, channel_stride, 1, 1))
        agrees(cpu, x[:20], numbers[:20])
        agrees(cpu, x[:20, :3], numbers[:20])


def test_rows_and_columns_of_as_many_numbers_are_told_apart(cpu: CpuBackend) -> None:
    x, numbers = torch.randn(3, 3, 70, 70), stretches((1, 1, 70, 1), 3)
    for beside in (numbers, numbers.mT, numbers):
        agrees(cpu, x, beside)


@pytest.mark.parametrize("length", [1, 500])
def test_usual_data_is_read_once(cpu: CpuBackend, length: int) -> None:
    """A few samples of those that count, in places that differ, give a pivot that serves them."""
    shape = (8, 67, 20, 20)
    numbers = stretches(shape, length)
    x = 100 * torch.tensor([0.0, 1.0]).repeat(10) + 20 * torch.randn(shape)
    x[(numbers == 0).expand(shape)] = 1e4
    exact = measure(ReferenceBackend(), x, numbers)["m2"]
    # The sums are those of float32 lanes, which rounding shows.
    assert ((measure(cpu, x, numbers)["m2"] / exact - 1).abs() > 1e-13).double().mean() > 0.9
