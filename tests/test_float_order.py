"""Numbers by their bits, whatever the processor does with subnormal ones."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmstats.statistic.float_order import at_places, place_of, places, round_toward, to_float64

SMALLEST = 5e-324
NUMBERS = [-math.inf, -1e308, -1.0, -1e-310, -SMALLEST, 0.0, SMALLEST, 1e-310, 2.5, math.inf]
ROUNDED = (torch.float32, torch.float16, torch.bfloat16)


@pytest.fixture(params=[False, True], ids=["ieee", "flushed"])
def environment(request: pytest.FixtureRequest) -> Iterator[None]:
    if not torch.set_flush_denormal(request.param):
        pytest.skip("this processor cannot flush subnormal numbers")
    yield
    torch.set_flush_denormal(False)


def test_places_are_in_the_order_of_numbers(environment: None) -> None:
    at = places(torch.tensor(NUMBERS, dtype=torch.float64))
    assert at.tolist() == sorted(at.tolist())
    assert len(set(at.tolist())) == len(NUMBERS)
    assert [place_of(x) for x in NUMBERS] == at.tolist()
    assert torch.equal(
        at_places(at).view(torch.int64),
        torch.tensor(NUMBERS, dtype=torch.float64).view(torch.int64),
    )


def test_both_zeros_have_one_place_and_nan_is_beyond_infinity() -> None:
    assert places(torch.tensor([-0.0, 0.0], dtype=torch.float64)).tolist() == [0, 0]
    assert place_of(-0.0) == 0
    assert place_of(math.nan) > place_of(math.inf)
    assert place_of(-math.nan) < place_of(-math.inf)


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2],
    ids=lambda d: str(d).removeprefix("torch."),
)
def test_every_number_is_widened_exactly(environment: None, dtype: torch.dtype) -> None:
    if dtype == torch.float32:
        bits = torch.cat([torch.arange(0, 1 << 31, 1 << 19), torch.arange(1, 4000)]).int()
        x = torch.cat([bits, bits | -(1 << 31)]).view(torch.float32)
    elif dtype.itemsize == 2:
        x = torch.arange(-(1 << 15), 1 << 15).to(torch.int16).view(dtype)
    else:
        x = torch.arange(256).to(torch.uint8).view(dtype)
    got = to_float64(x).view(torch.int64)
    torch.set_flush_denormal(False)
    want = x.to(torch.float64).view(torch.int64)
    number = ~x.to(torch.float32).isnan()
    assert torch.equal(got[number], want[number])
    assert to_float64(x)[~number].isnan().all()


@pytest.mark.parametrize("dtype", ROUNDED, ids=lambda d: str(d).removeprefix("torch."))
@given(x=st.floats() | st.floats(width=32) | st.floats(width=16), up=st.booleans())
def test_rounding_is_to_the_next_number(dtype: torch.dtype, x: float, up: bool) -> None:
    got = round_toward(x, dtype, up)
    if math.isnan(x):
        assert math.isnan(got)
        return
    there = torch.tensor(got, dtype=torch.float64).to(dtype)
    assert float(there) == got
    assert got >= x if up else got <= x
    if got != x:
        back = torch.nextafter(there, there.new_tensor(-math.inf if up else math.inf))
        assert float(back) < x if up else float(back) > x


@pytest.mark.parametrize("dtype", ROUNDED, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("x", [1.0, 1.5, 2.0**-20, 3.0, 65504.0 / 2**11])
def test_the_nearest_float64_numbers_are_rounded_apart(dtype: torch.dtype, x: float) -> None:
    """Every bit of a significand counts, the last one, too."""
    x = round_toward(x, dtype, up=False)
    for sign in (1.0, -1.0):
        assert round_toward(sign * x, dtype, up=True) == sign * x
        for end in (math.inf, -math.inf):
            near = math.nextafter(sign * x, end)
            next_one = torch.nextafter(*(torch.tensor(v, dtype=dtype) for v in (sign * x, end)))
            assert round_toward(near, dtype, up=end > 0) == float(next_one)
            assert round_toward(near, dtype, up=end < 0) == sign * x


@pytest.mark.parametrize("dtype", ROUNDED, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("x", [SMALLEST, 2.0**-1023, 2.0**-1022, 2.0**-1021, 2.0**-200])
def test_what_is_below_all_numbers_is_between_0_and_the_smallest(
    dtype: torch.dtype, x: float
) -> None:
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    assert (round_toward(x, dtype, up=True), round_toward(x, dtype, up=False)) == (smallest, 0.0)
    assert (round_toward(-x, dtype, up=True), round_toward(-x, dtype, up=False)) == (0.0, -smallest)


def test_float64_is_not_rounded() -> None:
    for x in (0.1, SMALLEST, -1e308, math.inf):
        assert round_toward(x, torch.float64, up=True) == x


def test_subnormals_are_rounded_where_the_processor_flushes_them(environment: None) -> None:
    assert place_of(round_toward(1e-40, torch.float32, up=True)) == place_of(71363 * 2.0**-149)
    assert place_of(round_toward(1e-40, torch.float32, up=False)) == place_of(71362 * 2.0**-149)
    assert place_of(round_toward(SMALLEST, torch.float32, up=True)) == place_of(2.0**-149)
    assert place_of(round_toward(-SMALLEST, torch.float32, up=True)) == 0
