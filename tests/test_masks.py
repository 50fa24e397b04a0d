"""By every backend, a tensor with a mask has the statistics of the positions that it leaves."""

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
from fmstats.statistic.view import masked_view_of, view_of

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


def measure(
    backend: Backend, sample: Sample, mask: Tensor, dims: tuple[int, ...], thresholds: Thresholds
) -> State:
    state = State.identity(sample.x.shape[sample.channel_dim])
    view, positions = masked_view_of(sample.x, sample.channel_dim, mask, dims)
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


def test_nothing_left_changes_nothing(backend: Backend) -> None:
    x = torch.randn(4, 6, 3)
    x[1] = math.nan
    sample, state = Sample(x, 2, ("normal",) * 3), State.identity(3)
    before = state.words.clone()
    view, positions = masked_view_of(x, 2, torch.zeros(4, 6, dtype=torch.bool), (0, 1))
    backend.accumulate(state, x, view, PLAIN, open_clock(), positions)
    assert torch.equal(state.words, before)
    kept = torch.tensor([1, 0, 1, 1], dtype=torch.uint8)
    assert measure(backend, sample, kept, (0,), PLAIN)["nan"].tolist() == [0, 0, 0]


def test_large_tensors_are_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Sample(torch.randn(5, 4, 7), 1, ("normal",) * 4)
    mask = torch.rand(5, 7) < 0.5
    whole = measure(TorchBackend(), sample, mask, (0, 2), PLAIN)
    monkeypatch.setattr("fmstats.backends.pytorch.PIECE", 16)
    assert_equal_states(measure(TorchBackend(), sample, mask, (0, 2), PLAIN), whole, (1e-12, 1e-9))


def test_dims_are_joined_where_both_can_be() -> None:
    x = torch.empty(2, 3, 4, 5)
    by_sample, positions = masked_view_of(x, 1, torch.ones(2, dtype=torch.bool), (0,))
    assert (by_sample.dims, positions.strides) == (((2, 60), (20, 1)), (1, 0))
    by_place, positions = masked_view_of(x, 1, torch.ones(4, 5, dtype=torch.bool), (2, 3))
    assert (by_place.dims, positions.strides) == (((2, 60), (20, 1)), (0, 1))
    tokens = torch.empty(2, 7, 3)
    whole, positions = masked_view_of(tokens, -1, torch.ones(2, 7, dtype=torch.bool), (0, 1))
    assert (whole.dims, positions.strides) == (((14, 3),), (1,))
    turned, positions = masked_view_of(tokens, -1, torch.ones(7, 2, dtype=torch.bool), (1, 0))
    assert (turned.dims, positions.strides) == (((2, 21), (7, 3)), (1, 2))


@pytest.mark.parametrize(
    ("mask", "dims", "text"),
    [
        (torch.ones(2), (0,), "a mask is bool or uint8, got torch.float32"),
        (torch.ones(2, dtype=torch.bool, device="meta"), (0,), "on meta, the tensor on cpu"),
        (torch.ones(2, dtype=torch.bool), (0, 2), "a mask of 1 dims needs as many"),
        (torch.ones(2, 2, dtype=torch.bool), (0, 0), "each once, got"),
        (torch.ones(3, dtype=torch.bool), (1,), "dim 1 holds the channels"),
        (
            torch.ones(4, dtype=torch.bool),
            (0,),
            r"shape \(4,\), dims \[0\] of the tensor of \(2,\)",
        ),
        (torch.ones(2, dtype=torch.bool), (5,), "channel_dim=5 is not a dim"),
    ],
)
def test_masks_that_do_not_fit(mask: Tensor, dims: tuple[int, ...], text: str) -> None:
    with pytest.raises(FmstatsError, match=text):
        masked_view_of(torch.empty(2, 3, 4), 1, mask, dims)
