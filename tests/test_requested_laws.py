"""The laws of what is measured on request, for every backend, kind of data, dtype and layout.

Powers up to the fourth and bins obey what the laws of `test_laws.py` say of the other fields, and
the latter are the same bits whatever is requested beside them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest
import torch
from samples import LAYOUTS, Sample, mixed, seeded
from test_laws import PLAIN, is_quick, pieces
from tolerances import ACCURACY, ROUNDING, assert_equal_requested, assert_equal_states

from fmstats.backends import DTYPES, Backend
from fmstats.backends.reference import ReferenceBackend
from fmstats.statistic.bins import SCOPES, Bins
from fmstats.statistic.measures import Measures
from fmstats.statistic.state import State, merge
from fmstats.statistic.view import grouped_view_of, view_of

REFERENCE = ReferenceBackend()
EVERY = ("abs", "kurtosis", "histogram")
CHOICES = (
    *(Measures.of(EVERY, Bins(scope, resolution)) for scope in SCOPES for resolution in (4, 0, 6)),
    *(Measures.of("histogram", Bins("channel", 3)), Measures.of("abs"), Measures.of("kurtosis")),
)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))

Case = tuple[Sample, Measures, random.Random]


def cases(law: str, dtype: torch.dtype, quick: bool) -> Iterator[Case]:
    """Every kind, in every layout or in one, by turns with all choices of measures."""
    turn = DTYPES.index(dtype) + len(law)
    layouts = tuple(LAYOUTS) if quick else (tuple(LAYOUTS)[turn % len(LAYOUTS)],)
    for layout in layouts:
        for sample in mixed(dtype, layout, law, "requested", small=not quick):
            turn += 1
            yield sample, CHOICES[turn % len(CHOICES)], seeded(law, dtype, layout, turn)


def measure(
    backend: Backend, *parts: Sample, measures: Measures, onto: State | None = None
) -> State:
    channels = parts[0].x.shape[parts[0].channel_dim]
    state = State.identity(channels, measures=measures) if onto is None else onto
    for part in parts:
        backend.accumulate(state, part.x, view_of(part.x, part.channel_dim), PLAIN)
    return state


@every_dtype
def test_equals_the_reference(backend: Backend, dtype: torch.dtype) -> None:
    for sample, measures, _ in cases("equal", dtype, is_quick(backend)):
        got = measure(backend, sample, measures=measures)
        want = measure(REFERENCE, sample, measures=measures)
        assert_equal_requested(got, want, ACCURACY[dtype], (sample, measures))


@every_dtype
def test_nothing_else_changes(backend: Backend, dtype: torch.dtype) -> None:
    for sample, measures, _ in cases("beside", dtype, False):
        got = measure(backend, sample, measures=measures)
        alone = measure(backend, sample, measures=Measures())
        beside = State(got.words[: len(alone.words)])
        if backend.name in ("cuda", "triton"):  # a GPU's threads have fewer elements each
            assert_equal_states(beside, alone, ACCURACY[dtype], (sample, measures))
        else:
            assert torch.equal(beside.words, alone.words), (sample, measures)
        again = measure(backend, sample, measures=measures)
        assert torch.equal(again.words, got.words), (sample, measures)


@every_dtype
def test_how_a_tensor_is_cut_does_not_matter(backend: Backend, dtype: torch.dtype) -> None:
    for sample, measures, rng in cases("cut", dtype, is_quick(backend)):
        want = measure(REFERENCE, sample, measures=measures)
        folded = measure(backend, *pieces(sample, rng), measures=measures)
        assert_equal_requested(folded, want, ACCURACY[dtype], (sample, measures))
        merged = State.identity(len(sample.kinds), measures=measures)
        for piece in pieces(sample, rng):
            merged = merge(merged, measure(backend, piece, measures=measures))
        assert_equal_requested(merged, want, ACCURACY[dtype], (sample, measures))


@every_dtype
def test_merging_commutes_and_associates(dtype: torch.dtype) -> None:
    for sample, measures, rng in cases("commutes", dtype, True):
        dim = rng.choice(sample.position_dims)
        cuts = sorted(rng.randint(0, sample.x.shape[dim]) for _ in range(2))
        a, b, c = (measure(REFERENCE, part, measures=measures) for part in sample.parts(dim, cuts))
        nothing = State.identity(a.channels, measures=measures)
        for one, other in (
            (merge(a, b), merge(b, a)),
            (merge(merge(a, b), c), merge(a, merge(b, c))),
            (merge(a, nothing), a),
            (merge(nothing, a), a),
        ):
            assert_equal_requested(one, other, (1e-12, ROUNDING[1]), sample)


@pytest.mark.parametrize("scope", SCOPES)
def test_groups_of_positions(backend: Backend, scope: str) -> None:
    rng = seeded("groups", scope)
    measures = Measures.of(EVERY, Bins(scope, 2))
    for shape, dim, like in (
        *(((3, 5, 4, 6), 1, (3, 1, 4, 6)), ((3, 5, 4, 6), 1, (3, 1, 1, 1))),
        *(((4, 9, 17), 2, (4, 9, 1)), ((7, 20), 1, (7, 1))),
    ):
        x = torch.randn(shape)
        numbers = torch.tensor([rng.randint(0, 3) for _ in range(math.prod(like))]).view(like)
        view, positions = grouped_view_of(x, dim, numbers.to(torch.uint8), 3)
        got, want = (State.identity(3 * shape[dim], "cpu", measures, 3) for _ in range(2))
        backend.accumulate(got, x, view, PLAIN, None, positions)
        REFERENCE.accumulate(want, x, view, PLAIN, None, positions)
        assert_equal_requested(got, want, ACCURACY[torch.float32], (shape, like))


def test_the_fast_way_is_the_slow_one(backend: Backend) -> None:
    measures = Measures.of(EVERY, Bins("channel", 3))
    x = torch.randn(3, 6, 5, 5)
    state, want = (State.identity(6, measures=measures) for _ in range(2))
    meter = backend.meter(state, PLAIN)
    meter.update(x, view_of(x, 1))
    if not meter.try_update(x.clone()):
        meter.update(x, view_of(x, 1))
    for _ in range(2):
        REFERENCE.accumulate(want, x, view_of(x, 1), PLAIN)
    assert_equal_requested(state, want, ACCURACY[torch.float32])


def test_numbers_at_the_edges_of_bins(backend: Backend) -> None:
    """Each is in the bin whose lower edge it is; its neighbours are on their sides."""
    for resolution in (0, 3, 6):
        bins = Bins("layer", resolution)
        edges = torch.from_numpy(bins.edges()).to(torch.float32)[:: 1 if is_quick(backend) else 37]
        below = torch.nextafter(edges, torch.zeros(()))
        above = torch.nextafter(edges, torch.full((), math.inf))
        special = torch.tensor([0.0, -0.0, 1e-45, 1e-38, 3e38, math.nan, math.inf, -math.inf])
        x = torch.cat([edges, below, above, -edges, -below, -above, special]).view(-1, 1)
        for data in (x, x.double(), x.T.contiguous()):
            view = view_of(data, 1 if data.shape[1] == 1 else 0)
            got, want = (
                State.identity(1, measures=Measures.of("histogram", bins)) for _ in range(2)
            )
            backend.accumulate(got, data, view, PLAIN)
            REFERENCE.accumulate(want, data, view, PLAIN)
            assert_equal_requested(got, want, ACCURACY[torch.float32], resolution)


def test_kinds_reach_every_kind_of_bin() -> None:
    """The samples hold numbers below, within and beyond the bins, of both signs."""
    bins = Bins("layer", 0)
    seen = torch.zeros(bins.words, dtype=torch.int64)
    for dtype in DTYPES:
        for sample in mixed(dtype, "contiguous", "kinds"):
            state = measure(REFERENCE, sample, measures=Measures.of("histogram", bins))
            assert state.bins is not None
            seen += state.bins[0]
    of_each_sign = seen.view(2, bins.of_sign)
    assert (of_each_sign[:, [0, 12, 24, 25, 26, 30, 38, -1]] > 0).all(), of_each_sign
