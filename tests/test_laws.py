"""The laws of a mergeable statistic, for every backend, kind of data, dtype and layout.

By construction: every backend equals the reference on every kind, dtype and layout, without bounds
and with, where neighbouring channels hold different kinds; the cpu backend also where a tensor
holds one kind alone. The other laws run over the same kinds and dtypes; in every layout on the cpu
backend, in one for each law and dtype on those that take their time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import KINDS, LAYOUTS, Sample, make, mixed, pure, seeded
from tolerances import ACCURACY, ROUNDING, assert_equal_states
from torch import Tensor

from fmstats.backends import DTYPES, Backend
from fmstats.backends.cpu import CpuMeter
from fmstats.backends.reference import ReferenceBackend
from fmstats.statistic.clock import Clock
from fmstats.statistic.fields import COUNTS, FIRSTS, IDENTITY, MOMENTS, NEVER
from fmstats.statistic.state import State, merge
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

PLAIN = Thresholds()
BOUNDED = (
    Thresholds(zero_tol=0.1, low=-0.5, high=1.0),  # 0.1 is no float32
    Thresholds(high=6.0),
    Thresholds(zero_tol=0.125),
    Thresholds(low=-0.5, high=0.99),
    Thresholds(zero_tol=0.125, high=1.0),
)
EVERY_LAYOUT = tuple(LAYOUTS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
REFERENCE = ReferenceBackend()


Case = tuple[Sample, Thresholds, random.Random]


def equality_cases(dtype: torch.dtype, layout: str, quick: bool) -> Iterator[Case]:
    """Every kind, with bounds and without."""
    samples = list(mixed(dtype, layout, "equal", small=not quick))
    if quick:
        samples += pure(dtype, layout, "equal")
    first = DTYPES.index(dtype) + EVERY_LAYOUT.index(layout)
    for number, sample in enumerate(samples, first):
        rng = seeded("equal", dtype, layout, number)
        yield sample, PLAIN, rng
        yield sample, BOUNDED[number % len(BOUNDED)], rng


def law_cases(law: str, dtype: torch.dtype, quick: bool) -> Iterator[Case]:
    """Every kind in every layout, or in one; by turns with all bounds and none."""
    turn = 2 * list(LAWS).index(law) + DTYPES.index(dtype)
    layouts = EVERY_LAYOUT if quick else (EVERY_LAYOUT[turn % len(EVERY_LAYOUT)],)
    every_threshold = (*BOUNDED, PLAIN)
    for layout in layouts:
        for sample in mixed(dtype, layout, law, small=not quick):
            turn += 1
            thresholds = every_threshold[turn % len(every_threshold)]
            yield sample, thresholds, seeded(law, dtype, layout, turn)


def clock_at(time: int) -> Clock:
    clock = Clock()
    clock.set("first_pass", time)
    clock.set("first_step", time**2)
    return clock


def measure(
    backend: Backend,
    *parts: Sample,
    thresholds: Thresholds = PLAIN,
    onto: State | None = None,
    time: int = 5,
) -> State:
    clock = clock_at(time)
    state = State.identity(parts[0].x.shape[parts[0].channel_dim]) if onto is None else onto.clone()
    for part in parts:
        backend.accumulate(state, part.x, view_of(part.x, part.channel_dim), thresholds, clock)
    return state


def pieces(sample: Sample, rng: random.Random) -> list[Sample]:
    """A tensor cut along one of its dims, at up to three places; some pieces may be empty."""
    dim = rng.choice(sample.position_dims)
    size = sample.x.shape[dim]
    return sample.parts(dim, sorted(rng.randint(0, size) for _ in range(rng.randint(1, 3))))


# --- what the laws say, of one sample


def folded_in_pieces(backend: Backend, sample: Sample, t: Thresholds, rng: random.Random) -> None:
    """How a tensor is cut into batches does not matter."""
    got = measure(backend, *pieces(sample, rng), thresholds=t)
    want = measure(REFERENCE, sample, thresholds=t)
    assert_equal_states(got, want, ACCURACY[sample.x.dtype], sample)


def merged_from_pieces(backend: Backend, sample: Sample, t: Thresholds, rng: random.Random) -> None:
    """Nor whether the batches were seen by one or by many."""
    state = State.identity(len(sample.kinds))
    for piece in pieces(sample, rng):
        state = merge(state, measure(backend, piece, thresholds=t))
    want = measure(REFERENCE, sample, thresholds=t)
    assert_equal_states(state, want, ACCURACY[sample.x.dtype], sample)


def permuted(backend: Backend, sample: Sample, t: Thresholds, rng: random.Random) -> None:
    """The order of elements does not matter."""
    moved = sample.x.movedim(sample.channel_dim, 0).flatten(1).double()
    order = torch.randperm(moved.shape[1])
    mixed_up = moved[:, order].to(sample.x.dtype)
    turned = Sample(mixed_up.T.contiguous().T if rng.random() < 0.5 else mixed_up, 0, sample.kinds)
    got = measure(backend, turned, thresholds=t)
    want = measure(REFERENCE, sample, thresholds=t)
    assert_equal_states(got, want, ACCURACY[sample.x.dtype], sample)


def nothing_changes_nothing(
    backend: Backend, sample: Sample, t: Thresholds, rng: random.Random
) -> None:
    """The state of no data is the identity, and a tensor without elements is no data."""
    state = measure(backend, sample, thresholds=t)
    nothing = State.identity(state.channels)
    empty = sample.parts(rng.choice(sample.position_dims), [0])[0]
    assert empty.x.numel() == 0
    for same in (
        merge(state, nothing),
        merge(nothing, state),
        measure(backend, empty, thresholds=t, onto=state),
        measure(backend, sample, thresholds=t),  # the same bits every time
    ):
        assert torch.equal(same.words, state.words), sample


def commutes_and_associates(
    backend: Backend, sample: Sample, t: Thresholds, rng: random.Random
) -> None:
    """Neither order nor grouping of merges matters but for float64 rounding."""
    size = sample.x.shape[dim := rng.choice(sample.position_dims)]
    cuts = sorted(rng.randint(0, size) for _ in range(2))
    parts = zip(sample.parts(dim, cuts), (6, 4, 5), strict=True)
    a, b, c = (measure(backend, part, thresholds=t, time=time) for part, time in parts)
    assert_equal_states(merge(a, b), merge(b, a), ROUNDING, sample)
    assert_equal_states(merge(merge(a, b), c), merge(a, merge(b, c)), ROUNDING, sample)


def folding_is_merging(backend: Backend, sample: Sample, t: Thresholds, rng: random.Random) -> None:
    """A tensor folded into a state is its own state merged into that one, whatever was seen."""
    before = State(torch.stack([extreme(rng) for _ in sample.kinds], 1))
    got = measure(backend, sample, thresholds=t, onto=before)
    want = merge(before, measure(REFERENCE, sample, thresholds=t))
    assert_equal_states(got, want, ACCURACY[sample.x.dtype], (sample, before.words))


def extreme(rng: random.Random) -> torch.Tensor:
    """The words of a channel that has seen what is rare."""
    huge = 2**60 + 1
    count, mean, m2, width = rng.choice(
        [
            (0, 0.0, 0.0, 0.0),
            (0, 7.0, 0.0, 0.0),  # of nothing finite a mean means nothing
            (1, -7.25, 0.0, 0.0),
            (3, 1e6, 2.0, 1.0),  # far from all kinds, and light
            (huge, 0.3, 0.0, 0.0),
            (2**33 + 7, 0.25, 2.0**33, 10.0),
            (huge, -0.5, huge / 3.0, 2.0),
            (40, 1e200, 0.0, 0.0),  # whose square is beyond float64
            (40, -1e200, math.inf, 1e200),
            (9, 3e-310, 0.0, 0.0),
        ]
    )
    nan, sizes = rng.choice([0, 0, 5]), rng.choice([0, 2**40 + 3])
    fields = dict.fromkeys(COUNTS, 0) | {
        "count": count + nan,
        "nan": nan,
        "zeros": sizes,
        "sat_low": sizes + 1,
        **{name: rng.choice([NEVER, 0, 4, 30]) if nan else NEVER for name in FIRSTS},
    }
    moments = {field: IDENTITY[field] for field in MOMENTS}
    if count > 0:
        moments |= {"mean": mean, "m2": m2, "min": mean - width, "max": mean + width}
    return State.of(
        {name: torch.tensor([n], dtype=torch.int64) for name, n in fields.items()}
        | {name: torch.tensor([r], dtype=torch.float64) for name, r in moments.items()}
    ).words[:, 0]


Law = Callable[[Backend, Sample, Thresholds, random.Random], None]
LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (
        folded_in_pieces,
        merged_from_pieces,
        permuted,
        nothing_changes_nothing,
        commutes_and_associates,
        folding_is_merging,
    )
}


def is_quick(backend: Backend) -> bool:
    return backend.name == "cpu"


@every_dtype
@every_layout
def test_equals_the_reference(backend: Backend, dtype: torch.dtype, layout: str) -> None:
    for sample, thresholds, _ in equality_cases(dtype, layout, is_quick(backend)):
        got = measure(backend, sample, thresholds=thresholds)
        want = measure(REFERENCE, sample, thresholds=thresholds)
        assert_equal_states(got, want, ACCURACY[dtype], (sample, thresholds))


@every_dtype
@pytest.mark.parametrize("law", LAWS)
def test_law(backend: Backend, law: str, dtype: torch.dtype) -> None:
    for sample, thresholds, rng in law_cases(law, dtype, is_quick(backend)):
        LAWS[law](backend, sample, thresholds, rng)


def test_a_stream_of_many_batches(backend: Backend) -> None:
    """However many there are, and of whatever sizes."""
    for dtype in DTYPES:
        rng = seeded("stream", dtype)
        # A mean of 10^7 deviations moves by an ulp a batch, which is more than float64 promises.
        kinds = tuple(k for k in KINDS if k != "neighbours" or dtype != torch.float64)
        rows = torch.cat([make(kind, (600, 1, 3), dtype).double() for kind in kinds], 1).to(dtype)
        whole = Sample(rows, 1, kinds)
        cuts = sorted(rng.sample(range(600), 120 if is_quick(backend) else 6))
        for thresholds in (PLAIN, BOUNDED[0]) if is_quick(backend) else BOUNDED[:1]:
            got = measure(backend, *whole.parts(0, cuts), thresholds=thresholds)
            want = measure(REFERENCE, whole, thresholds=thresholds)
            assert_equal_states(got, want, ACCURACY[dtype], whole)


@pytest.mark.parametrize("dtype", [t for t in DTYPES if t.itemsize < 4], ids=str)
def test_every_number_of_a_small_type(backend: Backend, dtype: torch.dtype) -> None:
    """Each bit pattern is itself, NaN of both signs included, in rows, in columns and strided."""
    of = {1: torch.uint8, 2: torch.int16}[dtype.itemsize]
    slow = backend.name in ("cuda", "triton") and dtype.itemsize > 1
    every = torch.arange(0, 2 ** (8 * dtype.itemsize), 61 if slow else 1)
    every = every[: len(every) // 256 * 256].to(of) if slow else every.to(of)
    row = every.repeat_interleave(2).view(dtype)
    columns = every.view(-1, 64).repeat(2, 1).view(dtype)
    some_each = every.view(-1, 256)[:1].repeat(5, 1).view(dtype)
    for x in (row.view(1, 1, -1), row[::2].view(1, 1, -1), columns, some_each):
        sample = Sample(x, 1, ("any bits",) * x.shape[1])
        for thresholds in (PLAIN, BOUNDED[0]):
            got = measure(backend, sample, thresholds=thresholds)
            want = measure(REFERENCE, sample, thresholds=thresholds)
            assert_equal_states(got, want, ACCURACY[dtype], sample)


@every_dtype
def test_the_fast_way_is_the_slow_one(backend: Backend, dtype: torch.dtype) -> None:
    """What is recognised as the last tensor was is compared with the same thresholds."""
    near = torch.tensor([0.1, -0.1, 0.125, -0.7, 0.99, 0.0, 5.0, math.nan], dtype=torch.float64)
    x = near.repeat(6).view(2, 3, 8).to(dtype)
    for thresholds in (*BOUNDED, Thresholds(0.1, -0.7, 0.99)):
        state, view = State.identity(3), view_of(x, 1)
        meter = backend.meter(state, thresholds, clock_at(5))
        meter.update(x, view)
        if not meter.try_update(x.clone()):
            assert not isinstance(meter, CpuMeter) or not hasattr(
                Tensor, "__dlpack_c_exchange_api__"
            )
            meter.update(x, view)
        want = measure(REFERENCE, *[Sample(x, 1, ("near",) * 3)] * 2, thresholds=thresholds)
        assert_equal_states(state, want, ACCURACY[dtype], thresholds)


class Meaning(Tensor):
    """A tensor whose memory may hold other numbers than it means."""


def test_only_a_plain_tensor_takes_the_fast_way(backend: Backend) -> None:
    x = torch.randn(2, 3, 4)
    state = State.identity(3)
    meter = backend.meter(state, PLAIN)
    meter.update(x, view_of(x, 1))
    before = state.words.clone()
    others = (x.as_subclass(Meaning), torch.nn.Parameter(x), x.numpy(), x.tolist(), None, "x")
    across = x.transpose(0, 2).contiguous().transpose(0, 2)  # alike but for its strides
    for other in (*others, x[:1], x.double(), x.mT, across, x.to("meta")):
        assert not meter.try_update(other)
    assert torch.equal(state.words, before)


def worst_for_lanes(terms: int, most: int = 12) -> list[float]:
    """Numbers whose squares, added up in float32, are rounded the same way again and again."""
    v = np.random.default_rng(terms).uniform(1, 2, 20_000).astype(np.float32)
    total = np.zeros_like(v)
    for _ in range(terms):  # the product is exact in float64
        total = (total.astype(np.float64) + v.astype(np.float64) ** 2).astype(np.float32)
    error = np.abs(total / (terms * v.astype(np.float64) ** 2) - 1)
    return [float(each) for each in v[np.argsort(error)[-most:]]]


def test_roundings_of_one_sign_stay_within_the_promise(backend: Backend) -> None:
    """In lanes of float32 they add up: as many as a lane adds must be few enough."""
    quick = is_quick(backend)
    values = [v for terms in (33, 66, 264) for v in worst_for_lanes(terms, 8 if quick else 4)]
    near_zero = {"count": 4100, "m2": 4100 * 2.0**-60, "min": -(2.0**-30), "max": 2.0**-30}
    before = State.identity(len(values))
    for field, value in near_zero.items():
        before[field].fill_(value)
    runs = (1, 3, 7, 12, 17, 33, 40, 100, 4096) if quick else (1, 7, 4096)
    for run in runs:
        n = -(-4096 // run)
        x = torch.tensor(values, dtype=torch.float32).view(1, -1, 1).repeat(n, 1, run)
        x[-1, :, -1] *= 1 + 2.0**-22  # not a constant
        sample = Sample(x, 1, ("worst",) * len(values))
        want = merge(before, measure(REFERENCE, sample))
        got = measure(backend, sample, onto=before)
        assert_equal_states(got, want, ACCURACY[torch.float32], sample)


def test_no_channels(backend: Backend) -> None:
    assert measure(backend, Sample(torch.empty(2, 0, 4), 1, ())).channels == 0


# --- that the laws are tried on what they say


def test_every_kind_dtype_and_layout_is_a_case() -> None:
    text = (Path(__file__).parent.parent / "docs" / "statistics.md").read_text()
    assert f"{len(KINDS)} kinds of data" in text
    seen: list[str] = []
    for quick in (True, False):
        for dtype in DTYPES:
            for layout in LAYOUTS:
                tried = list(equality_cases(dtype, layout, quick))
                for bounded in (True, False):
                    samples = [s for s, t, _ in tried if (t != PLAIN) == bounded]
                    assert {kind for s in samples for kind in s.kinds} == set(KINDS)
                    assert all(s.x.numel() > 0 and s.x.dtype == dtype for s in samples)
                    if quick:
                        alone = [s.kinds[0] for s in samples if len(set(s.kinds)) == 1]
                        assert set(alone) == set(KINDS)
                seen += [f"{s}" for s, t, _ in tried if t == PLAIN and quick]
    assert len(set(seen)) > 0.98 * len(seen) > 1000  # none repeats another


def test_every_law_is_tried_on_every_kind_and_dtype() -> None:
    slow = set()
    for law in LAWS:
        for dtype in DTYPES:
            for quick in (True, False):
                tried = list(law_cases(law, dtype, quick))
                assert {kind for sample, _, _ in tried for kind in sample.kinds} == set(KINDS)
                if quick:
                    assert {thresholds for _, thresholds, _ in tried} == {PLAIN, *BOUNDED}
        turns = {2 * list(LAWS).index(law) + n for n in range(len(DTYPES))}
        slow |= {EVERY_LAYOUT[turn % len(EVERY_LAYOUT)] for turn in turns}
    assert slow == set(LAYOUTS)


IS_ONE = {
    "constant": lambda x, f: (x == x[0]).all() & (x != 0).any(),
    "negative zero": lambda x, f: (torch.signbit(x) & (x == 0)).any(),
    "neighbours": lambda x, f: len(x.unique()) == 2,
    "at the bounds": lambda x, f: {0.125, -0.5, 1.0, 6.0} <= set(x.tolist()),
    "large mean": lambda x, f: x.isnan().all() | (x.mean() > 200 * x.std(correction=0)),
    "subnormal": lambda x, f: ((x != 0) & (x.abs() < f.smallest_normal)).any(),
    "tiny": lambda x, f: (x.abs() < 1e3 * f.smallest_normal).all(),
    "huge": lambda x, f: x.abs().max() > (1e150 if f.bits == 64 else f.max / 8),
    "masked": lambda x, f: (x == min(0.0, x.min())).double().mean() > 0.9,
    "constant among nan": lambda x, f: x.isnan().double().mean() > 0.9,
    "all nan": lambda x, f: x.isnan().all(),
    "all inf": lambda x, f: (x.abs() == (448 if f.max == 448 else math.inf)).all(),  # e4m3 has none
}


@every_dtype
@pytest.mark.parametrize("kind", IS_ONE)
def test_a_kind_is_what_it_says(kind: str, dtype: torch.dtype) -> None:
    """As the dtype has it: rounding to it leaves what the kind is about."""
    x = make(kind, (1000,), dtype).double()
    assert IS_ONE[kind](x, torch.finfo(dtype))
