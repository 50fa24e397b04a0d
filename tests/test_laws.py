"""The laws of a mergeable statistic, for every backend, dtype and layout."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import LAYOUTS, Sample, samples
from tolerances import ACCURACY, ROUNDING, assert_equal_states

from fmstats.backends import DTYPES, Backend
from fmstats.backends.reference import ReferenceBackend
from fmstats.layout import view_of
from fmstats.statistic import State, Thresholds, merge

THRESHOLDS = (Thresholds(), Thresholds(zero_tol=0.1, low=-0.5, high=1.0), Thresholds(high=6.0))
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def some(backend: Backend) -> settings:
    """As many examples as a law is worth: an interpreter takes its time."""
    return settings(max_examples={"cuda": 4, "triton": 1}.get(backend.name, 12))


def measure(backend: Backend, *parts: Sample, thresholds: Thresholds = THRESHOLDS[0]) -> State:
    state = State.identity(parts[0].x.shape[parts[0].channel_dim])
    for part in parts:
        view = view_of(part.x, part.channel_dim)
        backend.accumulate(state, part.x, view, thresholds)
    return state


@every_dtype
@every_layout
def test_equals_the_reference(backend: Backend, dtype: torch.dtype, layout: str) -> None:
    @some(backend)
    @given(samples(dtype, layout), st.sampled_from(THRESHOLDS))
    def check(sample: Sample, thresholds: Thresholds) -> None:
        got = measure(backend, sample, thresholds=thresholds)
        want = measure(ReferenceBackend(), sample, thresholds=thresholds)
        assert_equal_states(got, want, ACCURACY[dtype])

    check()


@every_dtype
@every_layout
def test_splits_do_not_matter(backend: Backend, dtype: torch.dtype, layout: str) -> None:
    @some(backend)
    @given(samples(dtype, layout), st.data())
    def check(sample: Sample, data: st.DataObject) -> None:
        dim = data.draw(
            st.sampled_from([d for d in range(sample.x.dim()) if d != sample.channel_dim])
        )
        at = data.draw(st.integers(0, sample.x.shape[dim]))
        pieces = [Sample(p, sample.channel_dim) for p in sample.x.tensor_split([at], dim)]
        whole = measure(ReferenceBackend(), sample)
        assert_equal_states(measure(backend, *pieces), whole, ACCURACY[dtype])
        apart = [measure(backend, piece) for piece in pieces]
        assert_equal_states(merge(*apart), whole, ACCURACY[dtype])

    check()


@every_dtype
def test_permutations_do_not_matter(backend: Backend, dtype: torch.dtype) -> None:
    @some(backend)
    @given(samples(dtype, "contiguous"))
    def check(sample: Sample) -> None:
        moved = sample.x.movedim(1, 0).flatten(1)
        order = torch.randperm(moved.shape[1])
        mixed = moved.to(torch.float64)[:, order].to(dtype)  # float8 cannot be indexed
        got = measure(backend, Sample(mixed, 0))
        assert_equal_states(got, measure(ReferenceBackend(), sample), ACCURACY[dtype])

    check()


@every_dtype
def test_identity(backend: Backend, dtype: torch.dtype) -> None:
    @some(backend)
    @given(samples(dtype, "contiguous"))
    def check(sample: Sample) -> None:
        state = measure(backend, sample)
        nothing = State.identity(state.channels)
        assert torch.equal(merge(state, nothing).words, state.words)
        assert torch.equal(merge(nothing, state).words, state.words)

    check()


@every_dtype
def test_commutative_and_associative(backend: Backend, dtype: torch.dtype) -> None:
    @some(backend)
    @given(samples(dtype, "contiguous"), st.data())
    def check(sample: Sample, data: st.DataObject) -> None:
        cuts = sorted(data.draw(st.integers(0, sample.x.shape[0])) for _ in range(2))
        a, b, c = (measure(backend, Sample(p, 1)) for p in sample.x.tensor_split(cuts, 0))
        assert_equal_states(merge(a, b), merge(b, a), ROUNDING)
        assert_equal_states(merge(merge(a, b), c), merge(a, merge(b, c)), ROUNDING)

    check()


def test_the_same_bits_every_time(backend: Backend) -> None:
    x = torch.randn(5, 70, 23, 31)
    for sample in (Sample(x, 1), Sample(x.contiguous(memory_format=torch.channels_last), 1)):
        states = [measure(backend, sample, sample) for _ in range(3)]
        assert torch.equal(states[0].words, states[1].words)
        assert torch.equal(states[0].words, states[2].words)


def test_an_empty_tensor_changes_nothing(backend: Backend) -> None:
    state = measure(backend, Sample(torch.randn(2, 3, 4), 1))
    before = state.words.clone()
    for shape in ((0, 3, 4), (2, 3, 0)):
        x = torch.empty(shape)
        backend.accumulate(state, x, view_of(x, 1), Thresholds())
    assert torch.equal(state.words, before)


def test_no_channels(backend: Backend) -> None:
    assert measure(backend, Sample(torch.empty(2, 0, 4), 1)).channels == 0
