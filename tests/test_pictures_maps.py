"""Outputs of any shape as channels x height x width."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from picture_models import wave

from fmstats.errors import FmstatsError
from fmstats.pictures.maps import FeatureMaps, arrange, check_channel, to_host


@pytest.mark.parametrize(
    ("shape", "dim", "expected"),
    [
        ((5,), 0, (5, 1, 1)),
        ((1, 5), 1, (5, 1, 1)),
        ((1, 5, 7), 1, (5, 1, 7)),
        ((5, 7), 0, (5, 1, 7)),
        ((1, 5, 6, 7), 1, (5, 6, 7)),
        ((1, 6, 7, 5), 3, (5, 6, 7)),
        ((1, 5, 4, 6, 7), 1, (5, 6, 7)),
        ((1, 5, 2, 3, 6, 7), 1, (5, 6, 7)),
        ((1, 16, 5), 2, (5, 4, 4)),
        ((1, 17, 5), 2, (5, 4, 4)),
        ((16, 5), 1, (5, 4, 4)),
        ((1, 2, 5), 2, (5, 1, 2)),
        ((1, 1, 5), 2, (5, 1, 1)),
        ((1, 16, 5), 1, (16, 1, 5)),
    ],
)
def test_shapes(shape: tuple[int, ...], dim: int, expected: tuple[int, ...]) -> None:
    assert arrange(wave(*shape), dim).maps.shape == expected


def test_every_value_stands_in_its_place() -> None:
    x = wave(1, 4, 5, 6, 7)
    assert torch.equal(arrange(x, 1).maps, x[0, :, 2])
    assert arrange(x, 1).note == "slice 2 of 5, the middle one"
    tokens = wave(1, 10, 4)
    assert torch.equal(arrange(tokens, 2).maps[3], tokens[0, 1:, 3].view(3, 3))
    batch = wave(3, 4, 5, 6)
    assert torch.equal(arrange(batch, 1, 2).maps, batch[2])
    assert torch.equal(arrange(wave(3, 4), 1, 2).maps.flatten(), wave(3, 4)[2])
    assert arrange(batch, 1, 2).note == ""


def test_whether_an_output_is_of_one_sample() -> None:
    assert arrange(wave(1, 4, 5, 6), 1).whole
    assert arrange(wave(4, 5, 6), 0).whole
    assert arrange(wave(9, 4), 1).whole
    windows = arrange(wave(8, 9, 4), 2)
    assert not windows.whole
    assert windows.note == "the first of 8 along dim 0; 9 tokens as a grid"


def test_copies_are_copies() -> None:
    x = wave(1, 2, 3, 3)
    host = to_host(arrange(x, 1).maps)
    x.zero_()
    assert host.any()
    assert to_host(torch.ones(1, dtype=torch.bfloat16)).dtype == np.float32
    assert to_host(torch.ones(1, dtype=torch.float64)).dtype == np.float64


def test_dead_is_more_than_99_percent() -> None:
    plane = np.zeros((2, 10, 20), np.float32)
    plane[0, 0, :2] = 1
    plane[1, 0, :1] = 1
    maps = FeatureMaps("a", "ReLU", plane)
    assert [maps.mark(channel) for channel in (0, 1)] == ["", "dead"]


def test_ranks_of_huge_values_are_without_warnings() -> None:
    values = np.array([[[1.0, 2.0]], [[-1e300, 1e300]], [[math.nan, math.inf]]])
    maps = FeatureMaps("a", "ReLU", values)
    assert maps.ranked("variance") == [1, 0, 2]
    assert maps.limits([2]) is None
    assert maps.limits([0, 2]) == (1.0, 2.0)


@pytest.mark.parametrize("channel", [-1, 4, True, 1.0, "1"])
def test_channels_that_are_not_there(channel: object) -> None:
    with pytest.raises(FmstatsError, match="from 0 to 3"):
        check_channel(channel, 4, "a")
    assert check_channel(np.int64(3), 4, "a") == 3
