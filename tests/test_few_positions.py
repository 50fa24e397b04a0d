"""The kernel for few positions (csrc/cpu/few.h): its bounds, its ends, what it reads again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from csrc_constants import constant
from samples import KINDS, make, seeded
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor

from fmstats.backends import DTYPES
from fmstats.backends.cpu import CpuBackend
from fmstats.backends.reference import ReferenceBackend
from fmstats.statistic.clock import Clock
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

pytestmark = pytest.mark.skipif(
    CpuBackend().why_not() is not None, reason="the native module is not built"
)
ISAS = CpuBackend().isas
# Most positions that this kernel takes, and of these most with sums in float64 at once.
MOST = int(constant("cpu/few_settle.h", "kFewPositions"))
EXACT = int(constant("cpu/few.h", "kExactPositions"))
# About each bound; of float32 sums, a chain more and less, whole ones and some more.
POSITIONS = (1, 2, EXACT - 1, EXACT, EXACT + 1, 20, 31, 32, 33, 50, MOST - 1, MOST, MOST + 1)
# Less than a vector of any instruction set, whole vectors, and some more.
CHANNELS = (2, 3, 7, 15, 16, 17, 32, 41)
REFERENCE = ReferenceBackend()
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
every_isa = pytest.mark.parametrize("isa", ISAS)


def clock_at(time: int) -> Clock:
    clock = Clock()
    clock.set("first_pass", time)
    clock.set("first_step", 10 * time)
    return clock


def assert_measures(
    *tensors: Tensor, isas: Sequence[str] = ISAS, thresholds: Thresholds | None = None
) -> None:
    """Tensors with channels last, one after the other, give what the reference makes of them."""
    states = []
    for backend in (REFERENCE, *map(CpuBackend, isas)):
        state = State.identity(tensors[0].shape[-1])
        for time, x in enumerate(tensors, 1):
            view = view_of(x, x.dim() - 1)
            backend.accumulate(state, x, view, thresholds or Thresholds(), clock_at(time))
        states.append(state)
    want, *all_got = states
    for isa, got in zip(isas, all_got, strict=True):
        of = (isa, *[(x.dtype, tuple(x.shape), x.stride()) for x in tensors])
        assert_equal_states(got, want, ACCURACY[tensors[0].dtype], of)


def of_kinds(positions: int, channels: int, dtype: torch.dtype) -> Tensor:
    """Data whose neighbouring channels are of different kinds, in random order."""
    rng = seeded("few", positions, channels, dtype)
    kinds = [rng.choice(list(KINDS)) for _ in range(channels)]
    return torch.cat([make(kind, (positions, 1), dtype).double() for kind in kinds], 1).to(dtype)


# Each gives data of (positions, channels) other strides.
STRIDES = {
    "contiguous": lambda x: x,
    "every other row": lambda x: x.repeat_interleave(2, 0)[::2],
    "in wider rows": lambda x: x.repeat(1, 2)[:, : x.shape[1]],
    "two dims": lambda x: x.repeat(2, 2).view(2, len(x), -1)[..., : x.shape[1]],
    "repeated": lambda x: x[:1].expand(len(x), -1),
}


@every_dtype
@pytest.mark.parametrize("strides", STRIDES)
def test_every_kind_of_data_about_the_bounds(dtype: torch.dtype, strides: str) -> None:
    for number, positions in enumerate(POSITIONS):
        channels = CHANNELS[number % len(CHANNELS)]
        x = STRIDES[strides](of_kinds(positions, channels, dtype))
        assert_measures(x)
        many = x.expand(12, *x.shape)  # their mean serves as pivot
        assert_measures(many, x)


@every_dtype
def test_every_number_of_channels(dtype: torch.dtype) -> None:
    """All bounds, then fewer comparisons: neighbours of a ragged end stay as they were."""
    modes = (Thresholds(0.1, -0.5, 1.0), Thresholds(), Thresholds(high=0.99))
    for number, channels in enumerate(CHANNELS):
        tensors = [of_kinds(positions, channels, dtype) for positions in (3, EXACT + 5, 1)]
        assert_measures(*tensors, thresholds=modes[number % len(modes)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bad_elements_at_every_place(dtype: torch.dtype) -> None:
    """Of whole vectors and of the ragged end, in the first tensor of a channel and in a later."""
    bad = (math.nan, math.inf, -math.inf)
    for positions, channels in ((3, 37), (EXACT + 3, 18)):
        good = torch.randn(positions, channels).to(dtype)
        for place in range(0, good.numel(), 1 if positions == 3 else 17):
            x = good.clone()
            x.view(-1)[place] = bad[place % 3]
            assert_measures(x, good, x)


@pytest.mark.parametrize("value", [-0.0, 0.0, 1e-42, 0.1, -3e38])
@pytest.mark.parametrize("positions", [1, 2, EXACT + 1])
def test_constants(positions: int, value: float) -> None:
    """Nothing deviates, bit for bit, also from the mean of a tensor before."""
    x = torch.full((positions, 35), value)
    assert_measures(x)
    assert_measures(x, x, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("positions", [8, EXACT + 3])
def test_data_far_from_the_pivot_is_read_again(positions: int, dtype: torch.dtype) -> None:
    """From 0, the pivot of a new channel, and from the mean of data that was elsewhere."""
    far = (1 << 23) + torch.arange(positions * 35).remainder(3).view(positions, 35).to(dtype)
    near = torch.randn(positions, 35, dtype=dtype)
    assert_measures(far)
    assert_measures(far, far)
    assert_measures(near, far, near)


@every_isa
def test_which_sums_are_of_float32(isa: str) -> None:
    """Above a bound, where the state's mean is near: what is made in float64 is more exact."""
    seen, new = torch.randn(50 * MOST, 67), State.identity(67)
    view = view_of(seen, 1)
    known = State.identity(67)
    REFERENCE.accumulate(known, seen, view, Thresholds())
    for positions, before, in_float32 in (
        (EXACT, known, False),
        (EXACT + 1, known, True),
        (MOST, known, True),
        (MOST, new, False),
    ):
        x = 3 * (before is new) + torch.randn(positions, 67)
        states = [before.clone(), before.clone()]
        for backend, state in zip((CpuBackend(isa), REFERENCE), states, strict=True):
            backend.accumulate(state, x, view_of(x, 1), Thresholds())
        got, want = (state["m2"] - before["m2"] for state in states)
        assert ((got / want - 1).abs() > 1e-10).double().mean().item() > 0.9 or not in_float32
        assert ((got / want - 1).abs() < 1e-10).all() or in_float32


@every_isa
def test_squares_beyond_float64(isa: str) -> None:
    """Of float64 data, and of float32 data after it: a pivot that no float32 comes near."""
    huge = torch.randn(6, 35, dtype=torch.float64) * 1e200
    assert_measures(huge, isas=[isa])
    assert_measures(huge, torch.randn(6, 35, dtype=torch.float64), isas=[isa])
    backend, state = CpuBackend(isa), State.identity(35)
    for x in (huge, torch.randn(6, 35)):
        backend.accumulate(state, x, view_of(x, 1), Thresholds())
    assert torch.allclose(state["mean"], huge.sum(0) / 12, rtol=1e-12)
    assert state["m2"].isinf().all()


@every_isa
def test_states_beside_stay_as_they_are(isa: str) -> None:
    """A row of states that is longer than the tensor has channels: others may own what follows."""
    for channels in (2, 15, 17, 40):
        words = torch.full((len(State.identity(1).words), 64), 77, dtype=torch.int64)
        words[:, :channels] = State.identity(channels).words
        x = torch.randn(4, channels)
        x[0, -1] = math.nan
        CpuBackend(isa).accumulate(State(words[:, :channels]), x, view_of(x, 1), Thresholds())
        assert (words[:, channels:] == 77).all()
        want = State.identity(channels)
        REFERENCE.accumulate(want, x, view_of(x, 1), Thresholds())
        assert_equal_states(State(words[:, :channels]), want, ACCURACY[torch.float32])


def test_sums_are_as_exact_as_promised_whatever_the_data() -> None:
    """The bound of csrc/reread.h, with roundings of float64, as many as there are positions."""
    for name, dtype in (("kFar", torch.float32), ("kFarFloat64", torch.float64)):
        coarse, terms = 1 + constant("cpu/few_settle.h", name) ** 2, MOST
        mean, variance = ACCURACY[dtype]
        cancelled = math.sqrt(1 - 1 / coarse)
        assert coarse * (terms + 2 + 2 * terms * cancelled) * 2.0**-53 <= 0.9 * variance
        assert terms * math.sqrt(coarse) * 2.0**-53 <= 0.9 * mean
