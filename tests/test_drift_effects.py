"""Effect sizes: none for equal channels, the same in any unit, and dead channels are reported."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import fmstats
from fmstats.drift.effects import EFFECTS, LIMIT, measure_effects, share_finite, standardise
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.state import State

SEEDS = st.integers(0, 2**31)


def stats_of(values: np.ndarray) -> ChannelStats:
    return fmstats.channel_stats(torch.from_numpy(values), 1, backend="reference")


def draw(seed: int, channels: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(rng.normal(size=channels), rng.uniform(0.1, 3, channels), (200, channels))


@given(SEEDS)
def test_equal_channels_have_no_effect(seed: int) -> None:
    stats = stats_of(draw(seed))
    effects = measure_effects(stats, stats)
    assert all((effects.of(effect) == 0).all() for effect in EFFECTS)
    assert effects.growth.tolist() == [1] * 4
    assert not (effects.newly_dead | effects.revived | effects.newly_broken).any()


@given(SEEDS, st.floats(0.001, 1000), st.floats(-100, 100))
@example(3080, 0.001, 2.0)  # a step that is 9.4e-4 deviations, and 5e-7 of the mean
def test_the_unit_of_a_channel_does_not_matter(seed: int, scale: float, offset: float) -> None:
    a, b = draw(seed), draw(seed + 1)
    plain = standardise(stats_of(a), stats_of(b))
    for sign in (1, -1):
        moved = standardise(
            stats_of(sign * scale * a + offset), stats_of(sign * scale * b + offset)
        )
        # A step below 1e-6 of the means is rounding, and none.
        size = 1e-6 * (abs(offset) + scale * (abs(a.mean(0)) + abs(b.mean(0))))
        deviation = scale * np.sqrt((a.var(0) + b.var(0)) / 2)
        none = (moved["shift"] == 0) & (abs(plain["shift"]) * deviation <= size)
        want = np.where(none, 0.0, sign * plain["shift"])
        np.testing.assert_allclose(moved["shift"], want, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(moved["spread"], plain["spread"], rtol=1e-4, atol=1e-4)


@given(SEEDS)
def test_swapping_sides_turns_signs(seed: int) -> None:
    a, b = stats_of(draw(seed)), stats_of(draw(seed + 1))
    one, other = measure_effects(a, b), measure_effects(b, a)
    for effect in EFFECTS:
        np.testing.assert_allclose(one.of(effect), -other.of(effect), rtol=1e-12)
    np.testing.assert_allclose(one.growth, 1 / other.growth, rtol=1e-12)


def test_sizes_are_those_defined() -> None:
    x = np.array([[-1.0], [1.0]] * 100)
    effects = measure_effects(stats_of(2 * x + 5), stats_of(x))
    assert effects.shift[0] == pytest.approx(5 / math.sqrt((4 + 1) / 2))
    assert effects.spread[0] == pytest.approx(math.log(4))
    assert effects.growth[0] == pytest.approx(2)


def test_a_channel_that_dies_and_one_that_revives() -> None:
    alive, dead = draw(0, 3), draw(0, 3)
    dead[:, 1] = alive[:, 2] = dead[:, 2] = 0
    there, back = (
        measure_effects(stats_of(a), stats_of(b)) for a, b in ((dead, alive), (alive, dead))
    )
    assert there.newly_dead.tolist() == back.revived.tolist() == [False, True, False]
    assert not (there.revived | back.newly_dead).any()
    assert (there.sparsity[1], there.spread[1], there.growth[1]) == (1, -LIMIT, 0)
    assert (back.sparsity[1], back.spread[1], back.growth[1]) == (-1, LIMIT, math.inf)


def test_constants() -> None:
    ones, twos = np.ones((20, 1)), np.full((20, 1), 2.0)
    same = measure_effects(stats_of(ones), stats_of(ones))
    assert [same.of(effect)[0] for effect in EFFECTS] == [0, 0, 0]
    moved = measure_effects(stats_of(twos), stats_of(ones))
    assert [moved.of(effect)[0] for effect in EFFECTS] == [LIMIT, 0, 0]


def test_nothing_finite() -> None:
    effects = measure_effects(stats_of(np.full((20, 1), np.nan)), stats_of(np.ones((20, 1))))
    assert np.isnan([effects.shift[0], effects.spread[0], effects.growth[0]]).all()
    assert effects.newly_broken.tolist() == [True]
    back = measure_effects(stats_of(np.ones((20, 1))), stats_of(np.full((20, 1), np.nan)))
    assert back.newly_broken.tolist() == [False]


def spoilt(share: float) -> ChannelStats:
    x = np.ones((1000, 1))
    x[: round(share * 1000)] = np.nan
    return stats_of(x)


def test_a_newly_broken_channel_is_one_that_was_whole_before() -> None:
    for now, before, newly in ((0.5, 0.0, True), (0.5, 0.1, False), (0.0, 0.5, False)):
        effects = measure_effects(spoilt(now), spoilt(before))
        assert effects.newly_broken.tolist() == [newly]
        assert effects.non_finite[0] == pytest.approx(now - before)
        h = 2 * math.asin(math.sqrt(now)) - 2 * math.asin(math.sqrt(before))
        assert effects.broken[0] == pytest.approx(h)
    assert measure_effects(spoilt(1.0), spoilt(0.0)).broken[0] == pytest.approx(math.pi)


def test_a_side_that_saw_nothing_is_not_broken() -> None:
    nothing = ChannelStats(State.identity(1))
    effects = measure_effects(nothing, spoilt(0.0))
    assert (effects.broken[0], effects.non_finite[0], effects.newly_broken[0]) == (0, 0, False)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_elements_are_as_broken_as_many(count: int) -> None:
    whole, gone = (stats_of(np.full((count, 1), value)) for value in (1.0, np.nan))
    assert (share_finite(whole)[0], share_finite(gone)[0]) == (1, 0)
    assert measure_effects(gone, whole).non_finite[0] == 1


def test_growth_of_ranges() -> None:
    """Channels that are constant on both sides are as wide as ever, on one side they are not."""
    wide, still = np.array([[0.0], [3.0]]), np.ones((2, 1))
    assert measure_effects(stats_of(still), stats_of(2 * still)).growth[0] == 1
    assert measure_effects(stats_of(wide), stats_of(still)).growth[0] == math.inf
    assert measure_effects(stats_of(still), stats_of(wide)).growth[0] == 0


def test_merging_the_same_again_changes_no_effect() -> None:
    a, b = stats_of(draw(0)), stats_of(draw(1))
    one, twice = measure_effects(a, b), measure_effects(a | a, b | b | b)
    for effect in EFFECTS:
        np.testing.assert_allclose(one.of(effect), twice.of(effect), rtol=1e-9)
