"""Tensors read as channels x positions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmstats.errors import FmstatsError
from fmstats.statistic.view import View, resolve_dim, view_of


@pytest.mark.parametrize(
    ("x", "channel_dim", "view"),
    [
        (torch.empty(2, 3, 4, 5), 1, View(3, 20, ((2, 60), (20, 1)))),
        (torch.empty(2, 3, 4, 5, 6), 1, View(3, 120, ((2, 360), (120, 1)))),
        (torch.empty(1, 3, 4, 5), 1, View(3, 20, ((20, 1),))),
        (torch.empty(7, 3), 1, View(3, 1, ((7, 3),))),
        (torch.empty(2, 7, 3), -1, View(3, 1, ((14, 3),))),
        (torch.empty(2, 3, 1, 1), 1, View(3, 1, ((2, 3),))),
        (torch.empty(2, 1, 4, 5), 1, View(1, 20, ((40, 1),))),
        (torch.empty(5), 0, View(5, 1, ((1, 1),))),
        (torch.empty(2, 3, 4, 6)[..., ::2], 1, View(3, 24, ((2, 72), (12, 2)))),
        (torch.empty(2, 3, 4, 5).transpose(2, 3), 1, View(3, 20, ((2, 60), (20, 1)))),
        (torch.empty(1, 3, 4).expand(6, 3, 4), 1, View(3, 4, ((6, 0), (4, 1)))),
        (torch.empty(0, 3, 4), 1, View(3, 4, ((0, 12), (4, 1)))),
    ],
)
def test_views(x: torch.Tensor, channel_dim: int, view: View) -> None:
    assert view_of(x, channel_dim) == view


def test_channels_last() -> None:
    x = torch.empty(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    assert view_of(x, 1) == View(3, 1, ((40, 3),))
    x = torch.empty(2, 3, 4, 5, 6).contiguous(memory_format=torch.channels_last_3d)
    assert view_of(x, 1) == View(3, 1, ((240, 3),))


@given(
    st.permutations(range(4)),
    st.integers(0, 3),
    st.lists(st.integers(1, 3), min_size=4, max_size=4),
)
def test_every_element_is_read_once(order: list[int], channel_dim: int, steps: list[int]) -> None:
    base = torch.arange(3 * 4 * 5 * 6).view(3, 4, 5, 6).permute(order)
    x = base[:: steps[0], :: steps[1], :: steps[2], :: steps[3]]
    view = view_of(x, channel_dim)
    sizes, strides = zip(*view.dims, strict=True)
    read = x.as_strided((view.channels, *sizes), (view.channel_stride, *strides))
    for c in range(view.channels):
        assert sorted(read[c].flatten().tolist()) == sorted(
            x.select(channel_dim, c).flatten().tolist()
        )
    assert view.positions * view.channels == x.numel()


@pytest.mark.parametrize("dim", [4, -5])
def test_no_such_dim(dim: int) -> None:
    with pytest.raises(
        FmstatsError, match=rf"channel_dim={dim} is not a dim .* choose from -4 to 3"
    ):
        view_of(torch.empty(1, 2, 3, 4), dim)


def test_a_number_has_no_dim() -> None:
    with pytest.raises(FmstatsError, match="it has none"):
        resolve_dim(0, ())


def test_dims_from_either_end() -> None:
    shape = (2, 3, 4, 5)
    assert [resolve_dim(dim, shape) for dim in range(-4, 4)] == [0, 1, 2, 3, 0, 1, 2, 3]
