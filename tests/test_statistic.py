"""The state and its merge, in themselves."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmstats.backends.native import load_native
from fmstats.errors import FmstatsError
from fmstats.statistic.fields import COUNTS, FIELDS, REQUESTED
from fmstats.statistic.host_copies import copy_to_host
from fmstats.statistic.pooling import pool
from fmstats.statistic.state import State, merge
from fmstats.statistic.thresholds import Thresholds


def test_python_and_cpp_agree_on_the_fields() -> None:
    native = load_native()
    if native is None:
        pytest.skip("the native module is not built")
    requested = (field for fields in REQUESTED.values() for field in fields)
    assert (*FIELDS, *requested) == native.FIELDS


def test_a_state_is_eight_byte_words() -> None:
    state = State.identity(5)
    assert state.words.dtype == torch.int64
    assert state.words.shape == (len(FIELDS), 5)
    state["mean"][2] = 0.5
    assert state.words.view(torch.float64)[FIELDS.index("mean"), 2] == 0.5
    assert state["min"].tolist() == [math.inf] * 5
    assert state["max"].tolist() == [-math.inf] * 5


@pytest.mark.parametrize("words", [torch.zeros(13, 3), torch.zeros(12, 3, dtype=torch.int64)])
def test_other_tensors_are_refused(words: torch.Tensor) -> None:
    with pytest.raises(FmstatsError, match="a state is an int64 tensor of 13 rows"):
        State(words)


def test_states_of_other_channels_do_not_merge() -> None:
    with pytest.raises(FmstatsError, match="cannot merge a state of 2 channels with 3"):
        merge(State.identity(2), State.identity(3))


def state_of(values: list[float]) -> State:
    """A state of one channel by exact rational arithmetic."""
    fields = dict.fromkeys(COUNTS, torch.tensor([0]))
    fields["count"] = torch.tensor([len(values)])
    numbers = {"mean": 0.0, "m2": 0.0, "min": math.inf, "max": -math.inf}
    if values:
        numbers = {
            "mean": statistics.mean(values),
            "m2": statistics.pvariance(values) * len(values),
            "min": min(values),
            "max": max(values),
        }
    return State.of(
        fields | {k: torch.tensor([v], dtype=torch.float64) for k, v in numbers.items()}
    )


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), max_size=30),
    st.lists(st.floats(-1e6, 1e6, width=32), max_size=30),
)
def test_merge_is_the_state_of_both(a: list[float], b: list[float]) -> None:
    got, want = merge(state_of(a), state_of(b)), state_of(a + b)
    for field in (*COUNTS, "min", "max"):
        assert torch.equal(got[field], want[field])
    scale = max(map(abs, [*a, *b, 1e-30]))
    assert got["mean"].item() == pytest.approx(want["mean"].item(), rel=1e-12, abs=1e-14 * scale)
    assert got["m2"].item() == pytest.approx(want["m2"].item(), rel=1e-9, abs=1e-12 * scale**2)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_neighbours_taken_together_are_merged(widths: list[int], random: object) -> None:
    lists = [
        [random.uniform(-3, 3) for _ in range(random.randint(0, 3))]  # type: ignore[attr-defined]
        for _ in range(sum(widths))
    ]
    whole = pool(State(torch.cat([state_of(each).words for each in lists], 1)), widths)
    assert whole.channels == len(widths)
    for group, width in enumerate(widths):
        members, lists = lists[:width], lists[width:]
        want = state_of([x for each in members for x in each])
        for field in (*COUNTS, "min", "max"):
            assert whole[field][group] == want[field]
        assert whole["mean"][group].item() == pytest.approx(want["mean"].item(), abs=1e-14)
        assert whole["m2"][group].item() == pytest.approx(want["m2"].item(), abs=1e-12)


def test_counts_pass_two_to_the_53() -> None:
    huge = State.identity(1)
    huge["count"].fill_(2**60 + 1)
    huge["zeros"].fill_(2**60 + 1)
    both = merge(huge, huge)
    assert both["count"].item() == 2**61 + 2
    assert both["zeros"].item() == 2**61 + 2


def test_overflowing_differences_do_not_spoil_the_identity() -> None:
    far = state_of([1.0, 2.0])
    far["mean"].fill_(1e200)  # its square overflows
    assert torch.equal(merge(far, State.identity(1)).words, far.words)
    assert torch.equal(merge(State.identity(1), far).words, far.words)


def test_reset_and_clone() -> None:
    state = state_of([1.0, 2.0])
    copy = state.clone()
    state.reset_()
    assert torch.equal(state.words, State.identity(1).words)
    assert copy["count"].item() == 2


class _Far(torch.Tensor):
    """A tensor that says that it is on a GPU, and counts how often it is read from there."""

    device = torch.device("cuda", 0)
    reads = 0

    def to(self, device: str) -> torch.Tensor:
        _Far.reads += 1
        return self.as_subclass(torch.Tensor)


def test_copying_to_the_host_reads_each_device_once() -> None:
    states = []
    for channels in (3, 1, 4, 2):
        state = State.identity(channels)
        state["count"].copy_(torch.arange(channels) + 10 * channels)
        states.append(state)
    want = [state.clone() for state in states]
    for state in states[1:]:
        state.words, state.memory = (x.as_subclass(_Far) for x in (state.words, state.memory))
    copies = copy_to_host(states)
    assert _Far.reads == 1
    for state, copy, before in zip(states, copies, want, strict=True):
        state["count"].add_(1)
        assert torch.equal(copy.words, before.words)
        assert copy.words.untyped_storage().nbytes() == copy.held[0].nbytes  # nothing beside it
    assert copy_to_host([]) == []


def test_a_state_made_in_inference_mode_can_be_changed_outside() -> None:
    with torch.inference_mode():
        state = State.identity(2)
    seen = State.identity(2)
    seen["count"].fill_(3)
    state.merge_(seen)
    assert state["count"].tolist() == [3, 3]


@pytest.mark.parametrize("tol", [-1.0, math.nan, math.inf])
def test_bad_tolerances(tol: float) -> None:
    with pytest.raises(FmstatsError, match="zero_tol must be finite and not negative"):
        Thresholds(zero_tol=tol)


def test_one_bound_is_enough() -> None:
    bounds = [(None, None), (0.0, None), (None, 0.0), (0.0, 1.0)]
    assert [Thresholds(0.5, *each).bounded for each in bounds] == [False, True, True, True]


@pytest.mark.parametrize("bound", [math.nan, math.inf])
def test_bad_bounds(bound: float) -> None:
    with pytest.raises(FmstatsError, match="give a finite number or None"):
        Thresholds(high=bound)


@given(st.floats(-1e30, 1e30), st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_rounded_thresholds_compare_as_exact_ones(bound: float, near: float) -> None:
    tol, low, high = Thresholds(abs(bound), bound, bound).compared_as(torch.float32)
    assert all(np.float32(t) == t for t in (tol, low, high))
    for x in (near, np.nextafter(np.float32(bound), np.float32([-np.inf, np.inf])).tolist()):
        for value in x if isinstance(x, list) else [x]:
            assert (abs(value) <= tol) == (abs(value) <= abs(bound))
            assert (value <= low) == (value <= bound)
            assert (value >= high) == (value >= bound)


def test_thresholds_for_float64_are_themselves() -> None:
    tol, low, high = Thresholds(0.1, None, 0.3).compared_as(torch.float64)
    assert (tol, high) == (0.1, 0.3)
    assert math.isnan(low)


@pytest.mark.parametrize(
    ("thresholds", "mode"),
    [
        (Thresholds(), "plain"),
        (Thresholds(high=6.0), "upper"),
        (Thresholds(zero_tol=1e-3), "all"),
        (Thresholds(zero_tol=1e-3, high=6.0), "all"),
        (Thresholds(low=0.0), "all"),
        (Thresholds(low=0.0, high=1.0), "all"),
    ],
)
def test_kernels_compare_with_what_there_is(thresholds: Thresholds, mode: str) -> None:
    assert thresholds.mode == mode
