"""The accuracies promised, by argument: csrc/reread.h says which errors there are, and here they
are bounded with the constants of every backend, for any data. What is worst for a lane is tried,
too."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from csrc_constants import CSRC, constant
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor

from fmstats.backends import Backend
from fmstats.backends.cpu import CpuBackend
from fmstats.backends.reference import ReferenceBackend
from fmstats.backends.triton.plan import MOST_UNROLL, Layout
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

UNIT = 2.0**-24  # the largest relative error of a float32 rounding
MEAN, VARIANCE = ACCURACY[torch.float32]
ROUNDINGS = int(constant("parts.h", "kRoundings"))
COARSE = constant("reread.h", "kCoarse")


def test_moments_are_as_exact_as_promised_whatever_the_data() -> None:
    cancelled = 1 - 1 / COARSE
    m2 = COARSE * (ROUNDINGS + 2 + 2 * ROUNDINGS * math.sqrt(cancelled)) * UNIT
    mean = ROUNDINGS * math.sqrt(COARSE) * UNIT
    folded = 1 << 12  # roundings in float64 above, more than there are: a thousandth of the rest
    assert m2 * (1 + 1e-6) + folded * 2.0**-53 <= VARIANCE
    assert mean * (1 + 1e-6) + folded * 2.0**-53 <= MEAN


def test_cpu_lanes_keep_to_the_roundings() -> None:
    """The chain of kChain vectors, then as many joins as there are before float64."""
    chain = int(constant("cpu/lanes.h", "kChain"))
    chains = int(constant("cpu/lanes.h", "kChains"))
    assert chain + chains - 1 <= ROUNDINGS
    group = 2 * chains * chain  # of chains joined in pairs
    assert chain + math.log2(group // chain) <= ROUNDINGS
    assert "constexpr int kGroup = 2 * kChains * kChain;" in (CSRC / "cpu/lanes.h").read_text()
    assert "constexpr int kBlockSteps = kGroup;" in (CSRC / "cpu/blocks.h").read_text()


def test_cuda_lanes_keep_to_the_roundings() -> None:
    columns = (CSRC / "cuda/columns.cuh").read_text()
    found = re.search(r"kSettled = (\d+);", columns)
    assert found
    assert int(found[1]) + 1 <= ROUNDINGS  # a chunk's sum is staged as float32
    assert "kRoundings / (kPacks / kLanes)" in (CSRC / "cuda/measure.cuh").read_text()


@pytest.mark.parametrize("itemsize", [1, 2, 4])
def test_triton_lanes_keep_to_the_roundings(itemsize: int) -> None:
    formulas = Path(__file__).parent.parent / "fmstats/backends/triton/kernels/formulas.py"
    assert f"COARSE = tl.constexpr({COARSE})" in formulas.read_text()
    assert MOST_UNROLL <= ROUNDINGS
    vectors = [2**i for i in range(5) if 2**i * itemsize <= 16]
    assert all(Layout("rows", v, v, 1, True).unroll(itemsize) <= ROUNDINGS for v in vectors)


def fold(backend: Backend, *parts: Tensor) -> State:
    state = State.identity(parts[0].shape[0])
    for part in parts:
        backend.accumulate(state, part, view_of(part, 0), Thresholds())
    return state


LAYOUTS = {
    "rows": lambda x: x,
    "columns": lambda x: x.t().contiguous().t(),
    "strided": lambda x: x.repeat_interleave(2, 1)[:, ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", [1.9008121490478516, 1.3])
@pytest.mark.parametrize("before", [8200, 50_000])
def test_roundings_of_one_sign(backend: Backend, layout: str, before: int, value: float) -> None:
    """Every lane rounds the same way, about a pivot of 0 that so many elements make sure of."""
    first = torch.full((8, before), 2.0**-30)
    first[:, ::2] *= -1
    second = torch.full((8, 4096), value)
    second[:, -1] = value * (1 + 2.0**-22)
    for parts in ((first, second), (second, first), (second, -second)):
        laid = [LAYOUTS[layout](part) for part in parts]
        assert_equal_states(
            fold(backend, *laid), fold(ReferenceBackend(), *parts), ACCURACY[torch.float32]
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_outlier_first_in_every_lane(backend: Backend, layout: str) -> None:
    """Small squares are added to a large one, each rounded down by almost half a unit."""
    x = torch.full((8, 4096), 2.0**-12 * 0.999)
    x[:, ::2] *= -1
    x[:, : 16 * 8] = 1.0
    x[:, 16 * 4 : 16 * 8] = -1.0
    want = fold(ReferenceBackend(), x)
    assert_equal_states(fold(backend, LAYOUTS[layout](x)), want, ACCURACY[torch.float32])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_first_tensor_is_read_once(backend: Backend, layout: str) -> None:
    """About a pivot from samples: what is read again is as exact as float64, which this is not."""
    if backend.name in ("torch", "reference"):
        pytest.skip("has no pivot from samples")
    x = torch.randn(16, 1024) + 100
    m2 = fold(backend, LAYOUTS[layout](x))["m2"]
    exact = x.double().var(1, correction=0) * x.shape[1]
    assert ((m2 / exact - 1).abs() > 1e-12).sum() > 12


def exact_moments(batches: list[list[float]]) -> tuple[Fraction, Fraction]:
    """Mean and variance of all numbers, exactly."""
    numbers = [Fraction(x) for batch in batches for x in batch]
    mean = sum(numbers, Fraction()) / len(numbers)
    return mean, sum(((x - mean) ** 2 for x in numbers), Fraction()) / len(numbers)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_read_again_does_not_grow_less_exact(backend: Backend, layout: str) -> None:
    """No rounding of a sum is lost, so that more numbers give no larger error.

    Each number is rounded when the pivot is taken from it, and its square once more: together three
    units at most. The steps to the state and the merge may add as many again.
    """
    if backend.name in ("torch", "reference"):
        pytest.skip("adds up in its own way")
    x = torch.rand(1, 1 << 14, dtype=torch.float64)
    x[:, 1 << 13 :] += 1  # what is summed first goes far below 0, then comes back
    state = fold(backend, torch.zeros(1, 1, dtype=torch.float64), LAYOUTS[layout](x))
    mean, variance = exact_moments([[0.0], x[0].tolist()])
    assert abs(Fraction(state["mean"].item()) / mean - 1) <= 8 * Fraction(2) ** -53
    m2 = variance * (x.numel() + 1)
    assert abs(Fraction(state["m2"].item()) / m2 - 1) <= 8 * Fraction(2) ** -53


@pytest.mark.parametrize("batches", [1, 30, 200])
@pytest.mark.parametrize("ratio", [0.0, 1e4, 3e6, 3e12])
def test_many_batches_of_float64(backend: Backend, ratio: float, batches: int) -> None:
    """Off by what docs/statistics.md says of K tensors whose mean is so many deviations from 0."""
    if backend.name == "cuda":
        batches = min(batches, 3)
    x = torch.randn(batches, 1, 12, dtype=torch.float64) + ratio
    state = fold(backend, *x)
    mean, variance = exact_moments(x[:, 0].tolist())
    deviation = math.sqrt(variance)
    grown = batches * 2.0**-53 * (abs(float(mean)) / deviation + 4)
    got = Fraction(state["mean"].item())
    assert abs(got - mean) <= (1e-12 + grown) * deviation
    assert abs(Fraction(state["m2"].item()) / x.numel() - variance) <= (
        1e-12 + 2 * grown + grown**2
    ) * float(variance)


def test_a_hundred_thousand_batches_of_one() -> None:
    cpu = CpuBackend()
    if cpu.why_not() is not None:
        pytest.skip(str(cpu.why_not()))
    x = 1e4 + torch.randn(100_000, 1, 1, dtype=torch.float64)
    state = State.identity(1)
    view = view_of(x[0], 0)
    for one in x:
        cpu.accumulate(state, one, view, Thresholds())
    mean, variance = exact_moments([x.flatten().tolist()])
    grown = 100_000 * 2.0**-53 * (float(mean) / math.sqrt(variance) + 4)
    off = abs(Fraction(state["mean"].item()) - mean) / Fraction(math.sqrt(variance))
    assert 1e-12 < off <= grown  # so the number of batches has to be part of the promise
    assert abs(state["m2"].item() / 100_000 / float(variance) - 1) <= 2 * grown + grown**2
