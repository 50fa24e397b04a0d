"""By every backend, a tensor has the statistics of those of its positions that are in a group."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from samples import LAYOUTS, Sample, mixed, seeded
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor

from fmstats.backends import DTYPES, Backend
from fmstats.backends.pytorch import TorchBackend
from fmstats.backends.reference import ReferenceBackend
from fmstats.errors import FmstatsError
from fmstats.statistic.clock import Clock
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import grouped_view_of, view_of

REFERENCE = ReferenceBackend()
PLAIN = Thresholds()
EVERY_THRESHOLD = (
    PLAIN,
    Thresholds(zero_tol=0.1, low=-0.5, high=1.0),
    Thresholds(high=6.0),
    Thresholds(zero_tol=0.125),
)


def open_clock() -> Clock:
    clock = Clock()
    clock.set("first_pass", 5)
    clock.set("first_step", 25)
    return clock


def spread(x: Tensor, numbers: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Numbers of these dims of a tensor, with all of its dims."""
    places = sorted(dims)
    numbers = numbers.permute([dims.index(dim) for dim in places])
    for dim in range(x.dim()):
        if dim not in places:
            numbers = numbers.unsqueeze(dim)
    return numbers


def measure(
    backend: Backend,
    sample: Sample,
    numbers: Tensor,
    dims: tuple[int, ...],
    thresholds: Thresholds,
    groups: int = 1,
) -> State:
    state = State.identity(groups * sample.x.shape[sample.channel_dim])
    numbers = spread(sample.x, numbers, dims)
    view, positions = grouped_view_of(sample.x, sample.channel_dim, numbers, groups)
    backend.accumulate(state, sample.x, view, thresholds, open_clock(), positions)
    return state


def selected(sample: Sample, mask: Tensor, dims: tuple[int, ...]) -> Tensor:
    """What is left, (positions, channels)."""
    x = sample.x.movedim((*dims, sample.channel_dim), (*range(len(dims)), -1))
    bits = x.contiguous().view({1: torch.uint8, 2: torch.int16}.get(x.itemsize, x.dtype))
    return bits[mask.bool()].view(x.dtype).reshape(-1, x.shape[-1])


def masks_of(shape: tuple[int, ...], share: float) -> list[Tensor]:
    """The same mask, laid out in several ways."""
    mask = torch.rand(shape) < share
    wide = torch.zeros(*shape, 3, dtype=torch.uint8)
    wide[..., 1] = mask
    turned = mask.mT.contiguous().mT if mask.dim() > 1 else mask
    return [mask, mask.to(torch.uint8), wide[..., 1], turned]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_masked_is_not_there(backend: Backend, dtype: torch.dtype, layout: str) -> None:
    for turn, sample in enumerate(mixed(dtype, layout, "masks", small=True)):
        seeded("masks", dtype, layout, turn)
        dims = sample.position_dims
        over = [c for n in range(1, len(dims) + 1) for c in combinations(dims, n)]
        covered = over[turn % len(over)]
        covered = covered if turn % 3 else covered[::-1]
        shape = tuple(sample.x.shape[dim] for dim in covered)
        thresholds = EVERY_THRESHOLD[turn % len(EVERY_THRESHOLD)]
        share = (0.5, 0.1, 0.9, 0.0, 1.0)[turn % 5]
        masks = masks_of(shape, share)
        states = [measure(backend, sample, mask, covered, thresholds) for mask in masks]
        for state in states[1:]:  # however the mask lies in memory, the same bits
            assert torch.equal(state.words, states[0].words), sample
        left = selected(sample, masks[0], covered)
        want = State.identity(left.shape[1])
        REFERENCE.accumulate(want, left, view_of(left, 1), thresholds, open_clock())
        assert_equal_states(states[0], want, ACCURACY[dtype], (sample, covered, share))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_group_has_channels_of_its_own(
    backend: Backend, dtype: torch.dtype, layout: str
) -> None:
    for turn, sample in enumerate(mixed(dtype, layout, "groups", small=True)):
        seeded("groups", dtype, layout, turn)
        dims = sample.position_dims
        covered = dims[:1] if turn % 2 else dims
        groups = (3, 1, 5, 8)[turn % 4]
        shape = tuple(sample.x.shape[dim] for dim in covered)
        numbers = torch.randint(0, min(groups, 5) + 1, shape, dtype=torch.uint8)
        thresholds = EVERY_THRESHOLD[turn % len(EVERY_THRESHOLD)]
        got = measure(backend, sample, numbers, covered, thresholds, groups)
        one = State.identity(sample.x.shape[sample.channel_dim])
        merged = State.identity(one.channels)
        for k in range(1, groups + 1):
            state = State(got.words[:, (k - 1) * one.channels : k * one.channels])
            alone = measure(backend, sample, numbers == k, covered, thresholds)
            assert_equal_states(state, alone, ACCURACY[dtype], (sample, covered, k))
            merged.merge_(state)
        whole = measure(backend, sample, numbers > 0, covered, thresholds)
        assert_equal_states(merged, whole, ACCURACY[dtype], (sample, covered))


def test_nothing_left_changes_nothing(backend: Backend) -> None:
    x = torch.randn(4, 6, 3)
    x[1] = math.nan
    sample, state = Sample(x, 2, ("normal",) * 3), State.identity(3)
    before = state.words.clone()
    view, positions = grouped_view_of(x, 2, torch.zeros(4, 6, 1, dtype=torch.bool))
    backend.accumulate(state, x, view, PLAIN, open_clock(), positions)
    assert torch.equal(state.words, before)
    kept = torch.tensor([1, 0, 1, 1], dtype=torch.uint8)
    assert measure(backend, sample, kept, (0,), PLAIN)["nan"].tolist() == [0, 0, 0]


def test_the_last_group_has_its_place(backend: Backend) -> None:
    sample = Sample(torch.randn(4, 3, 5), 1, ("normal",) * 3)
    numbers = torch.tensor([255, 0, 1, 255], dtype=torch.uint8)
    state = measure(backend, sample, numbers, (0,), PLAIN, groups=255)
    assert state["count"].tolist() == [5] * 3 + [0] * (253 * 3) + [10] * 3


def test_large_tensors_are_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Sample(torch.randn(5, 4, 7), 1, ("normal",) * 4)
    mask = torch.rand(5, 7) < 0.5
    whole = measure(TorchBackend(), sample, mask, (0, 2), PLAIN)
    monkeypatch.setattr("fmstats.backends.pytorch.PIECE", 16)
    assert_equal_states(measure(TorchBackend(), sample, mask, (0, 2), PLAIN), whole, (1e-12, 1e-9))


def test_dims_are_joined_where_both_can_be() -> None:
    x = torch.empty(2, 3, 4, 5)
    by_sample, positions = grouped_view_of(x, 1, torch.ones(2, 1, 1, 1, dtype=torch.bool))
    assert (by_sample.dims, positions.strides) == (((2, 60), (20, 1)), (1, 0))
    by_place, positions = grouped_view_of(x, 1, torch.ones(1, 1, 4, 5, dtype=torch.bool))
    assert (by_place.dims, positions.strides) == (((2, 60), (20, 1)), (0, 1))
    tokens = torch.empty(2, 7, 3)
    whole, positions = grouped_view_of(tokens, -1, torch.ones(2, 7, 1, dtype=torch.bool))
    assert (whole.dims, positions.strides) == (((14, 3),), (1,))
    laid_otherwise = torch.ones(7, 2, 1, dtype=torch.bool).transpose(0, 1)
    turned, positions = grouped_view_of(tokens, -1, laid_otherwise)
    assert (turned.dims, positions.strides) == (((2, 21), (7, 3)), (1, 2))


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        (torch.ones(2, 1, 1), "are bool or uint8, got torch.float32"),
        (torch.ones(2, 1, 1, dtype=torch.bool, device="meta"), "on meta, the tensor on cpu"),
        (torch.ones(2, dtype=torch.bool), r"shape \(2,\) does not fit a tensor of \(2, 3, 4\)"),
        (torch.ones(3, 1, 1, dtype=torch.bool), r"shape \(3, 1, 1\) does not fit"),
        (torch.ones(2, 3, 1, dtype=torch.bool), "dim 1 holds the channels"),
    ],
)
def test_numbers_that_do_not_fit(numbers: Tensor, text: str) -> None:
    with pytest.raises(FmstatsError, match=text):
        grouped_view_of(torch.empty(2, 3, 4), 1, numbers)
