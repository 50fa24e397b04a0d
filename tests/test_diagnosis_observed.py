"""A layer as rules see it: its scale, its samples, its padding, and what it lacks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from diagnosis_profiles import healthy, layer_of, profile_of, unseen
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fmstats.diagnosis.observed import (
    SHOWN,
    Observed,
    count_blanks,
    enough,
    enough_whole,
    is_constant,
    name_channels,
    observe,
    why_too_little,
)
from fmstats.diagnosis.thresholds import choose_thresholds

DEFAULTS = choose_thresholds(None)


def seen(x: Tensor, **metadata: object) -> Observed:
    return observe(profile_of(layer_of(x), **metadata))[0]


@given(st.integers(0, 999), st.integers(0, 3))
def test_the_spread_is_that_within_channels(seed: int, gone: int) -> None:
    """Weighted by their finite elements; means that differ add nothing."""
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[: 10 * gone, gone] = math.nan
    offset = 100 * torch.arange(4)
    within = np.sqrt(np.nanmean(np.square(x.numpy() - np.nanmean(x.numpy(), 0))))
    assert seen(x).std == pytest.approx(within, rel=1e-6)
    assert seen(x + offset).std == pytest.approx(within, rel=1e-6)
    assert seen(x).rms == pytest.approx(np.sqrt(np.nanmean(np.square(x.numpy()))), rel=1e-6)


def test_a_channel_of_nothing_has_no_part_in_the_spread() -> None:
    x = healthy()
    x[:, 2] = math.nan
    assert seen(x).std == pytest.approx(seen(x[:, [0, 1, 3]]).std)
    assert math.isnan(seen(torch.full((20, 2), math.nan)).std)


def test_what_is_not_finite_is_counted() -> None:
    x = healthy()
    x[0, 0] = x[1, 0] = x[0, 1] = math.nan
    x[2, 0], x[2, 1] = math.inf, -math.inf
    assert (seen(x).nan, seen(x).inf) == (3, 2)


def test_samples_are_told_by_the_shape_and_never_more_than_the_run_saw() -> None:
    x = torch.zeros(12, 4, 5)
    layer = layer_of(x)
    for channel_dim, shape, calls, samples in (
        *((1, (12, 4, 5), 1, 12), (2, (3, 4, 4), 9, 15), (0, (4, 60), 9, 9)),
        *((1, (2, 4, 0), 9, 60), (1, (2, 4), 9, 60)),
    ):
        changed = replace(layer, channel_dim=channel_dim, shape=shape, calls=calls)
        assert observe(profile_of(changed))[0].samples == samples
        for fed in (samples - 1, samples, samples + 1):
            assert observe(profile_of(changed, samples=fed))[0].samples == min(fed, samples)
    assert observe(profile_of(unseen()))[0].samples == 0


def padded(zeros: list[int], positions: int = 100) -> Tensor:
    x = torch.ones(positions, len(zeros))
    for channel, number in enumerate(zeros):
        x[positions - number :, channel] = 0
    return x


@pytest.mark.parametrize(
    ("zeros", "blank"),
    [
        ([40] * 3, 40),
        ([40] * 2, 0),
        ([40] * 9 + [70], 40),  # nine of ten
        ([40] * 8 + [70], 0),
        ([40] * 9 + [30], 0),  # not the least
        ([0] * 10, 0),
        ([100] * 10, 0),
        ([99] * 10, 99),
        ([1] * 10, 1),
    ],
)
def test_as_many_zeros_in_nine_of_ten_channels_are_padding(zeros: list[int], blank: int) -> None:
    assert seen(padded(zeros)).blank == blank


def test_layers_of_as_many_positions_keep_the_padding() -> None:
    def blanks(*layers: Tensor) -> list[int]:
        return count_blanks([layer_of(x).stats for x in layers])

    first, mixed = padded([40] * 4), [40, 50, 60, 70]
    assert blanks(first, padded(mixed)) == [40, 40]
    assert blanks(padded(mixed), first) == [0, 40]  # not before it
    assert blanks(first, padded([39, 50, 60, 70])) == [40, 0]
    assert blanks(first, padded(mixed, 200)) == [40, 0]
    assert blanks(first, padded([50] * 4), padded([50, 60, 70, 80])) == [40, 50, 50]
    assert blanks(first, padded([100] * 4), padded(mixed)) == [40, 0, 40]
    assert blanks(first, padded([40, 50]), padded(mixed)) == [40, 0, 40]


def test_enough_is_of_elements_and_of_samples() -> None:
    thresholds = {**DEFAULTS, "elements": 100, "samples": 10}
    x = healthy(100, 3)
    for n, whole in ((10, True), (9, False)):
        layer = seen(x.reshape(10, 3, 10)[:n].repeat(1, 1, 2))
        assert (enough(layer, thresholds).all(), enough_whole(layer, thresholds).all()) == (
            whole,
            whole,
        )
    x[0, 1] = math.nan
    assert enough(seen(x), thresholds).tolist() == [True, False, True]
    assert enough_whole(seen(x), thresholds).tolist() == [True]
    assert enough_whole(seen(x[:34]), thresholds).tolist() == [True]  # 101 of them
    assert enough_whole(seen(x[:33]), thresholds).tolist() == [False]


def test_what_is_lacking() -> None:
    thresholds = {**DEFAULTS, "elements": 100, "samples": 10}
    x = healthy(200, 3)
    x[50:, 1], x[60:, 2] = math.nan, math.nan
    layer = seen(x)
    some, all_of_it = np.array([False, True, True]), np.ones(1, dtype=bool)
    assert why_too_little(layer, some, thresholds) == "50 finite elements seen, 100 needed"
    some[1] = False
    assert why_too_little(layer, some, thresholds) == "60 finite elements seen, 100 needed"
    assert why_too_little(layer, all_of_it, thresholds) == "310 finite elements seen, 100 needed"
    few = seen(x[:9])
    assert why_too_little(few, some, thresholds) == "9 samples seen, 10 needed"
    assert why_too_little(seen(x[:10]), some, thresholds) == "10 finite elements seen, 100 needed"
    assert (
        why_too_little(observe(profile_of(unseen()))[0], some[:2], thresholds) == "nothing was seen"
    )


@pytest.mark.parametrize("scale", [2.0**-66, 1.0, 2.0**66])
def test_a_constant_channel_is_one_of_little_spread_for_its_size(scale: float) -> None:
    thresholds = {**DEFAULTS, "constant": 0.25}
    x = torch.ones(50, 7, dtype=torch.float64)
    x[0] = torch.tensor([1, 0.75, 0.74, -1, 1, 1, 1], dtype=torch.float64)
    x[:, 4], x[:, 5] = 0, math.nan
    x[:, 6] = -1
    found = is_constant(seen(x * scale), thresholds).tolist()
    assert found == [True, True, False, False, False, False, True]


@pytest.mark.parametrize("count", [1, SHOWN - 1, SHOWN, SHOWN + 1])
def test_channels_are_named(count: int) -> None:
    where = np.zeros(20, dtype=bool)
    where[1 : count + 1] = True
    named = ", ".join(str(channel + 1) for channel in range(min(count, SHOWN)))
    rest = ", ..." if count > SHOWN else ""
    assert name_channels(where) == f"{count} of 20 channels ({named}{rest})"
