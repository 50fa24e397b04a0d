"""A layer of a comparison: its numbers are those of its channels; few elements say nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fmstats
from fmstats.drift.effects import ChannelEffects
from fmstats.drift.layers import Evidence, LayerDrift, compare_layer
from fmstats.drift.noise import TYPICAL, assume_level, surprise
from fmstats.statistic.channel_stats import ChannelStats

NONE = np.zeros(4)
NEVER = np.zeros(4, dtype=bool)
STILL = ChannelEffects(NONE, NONE, NONE, NONE + 1, NEVER, NEVER, NEVER, NONE, NONE)
NAN = math.nan


def stats_of(seed: int, count: int = 200, channels: int = 4, zeros: float = 0.0) -> ChannelStats:
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.normal(size=channels), rng.uniform(0.5, 2, channels), (count, channels))
    x[rng.random(x.shape) < zeros] = 0
    return fmstats.channel_stats(torch.from_numpy(x), 1, backend="reference")


def compare(
    now: ChannelStats, baseline: ChannelStats, shards: int = 0, least: int = 16
) -> LayerDrift:
    evidence = Evidence(50, 30, (8, 12, 10, 11, 9)[:shards])
    parts = [stats_of(100 + k, channels=now.channels) for k in range(shards)]
    return compare_layer("a", "ReLU", now, baseline, parts, evidence, least)


def told(**effects: object) -> LayerDrift:
    return LayerDrift("a", "ReLU", 1.5, {}, replace(STILL, **effects))


def test_a_row_is_the_root_mean_square_over_channels() -> None:
    drift = told(
        shift=np.array([3.0, -4.0, 0.0, NAN]),
        spread=np.array([NAN, NAN, NAN, NAN]),
        sparsity=np.array([0.5, -0.5, 0.5, -0.5]),
        growth=np.array([1.0, 2.0, 9.0, math.inf]),
        newly_dead=np.array([True, True, False, False]),
        revived=np.array([False, False, True, False]),
        newly_broken=np.array([True, False, True, True]),
        broken=np.array([0.1, -0.7, 0.0, 0.2]),
    )
    row = drift.row()
    assert row.pop("shift") == pytest.approx(math.sqrt(25 / 3))
    assert row == {
        **{"layer": "a", "type": "ReLU", "score": 1.5, "spread": None, "sparsity": 0.5},
        **{"growth": 2.0, "newly_dead": 2, "revived": 1, "newly_broken": 3, "broken": 0.7},
    }


def test_a_row_without_channels_or_a_score() -> None:
    none = ChannelEffects(*(np.zeros(0),) * 4, *(np.zeros(0, dtype=bool),) * 3, *(np.zeros(0),) * 2)
    drift = LayerDrift("a", "ReLU", NAN, {}, none)
    assert (drift.row()["score"], drift.row()["growth"], drift.row()["broken"]) == (None, None, 0)
    assert drift.channels() == []


@pytest.mark.parametrize(
    ("effect", "value", "size"),
    [
        *(("shift", -3.0, 3.0), ("spread", -3.0, 1.5), ("sparsity", -0.5, 0.5)),
        *(("broken", -0.3, 0.3), ("shift", NAN, 0.0), ("growth", 9.0, 0.0), ("non_finite", 1, 0.0)),
    ],
)
def test_the_size_of_a_channel(effect: str, value: float, size: float) -> None:
    values = np.ones(4) if effect == "growth" else np.zeros(4)
    values[2] = value
    rows = told(**{effect: values}).channels()
    assert [row["channel"] for row in rows] == [0, 1, 2, 3]
    assert [row["size"] for row in rows] == [0, 0, size, 0]
    assert rows[2][effect] == (None if math.isnan(value) else value)
    assert rows[1][effect] == (1 if effect == "growth" else 0)


def test_the_largest_change_is_the_size() -> None:
    values = {"shift": 1.0, "spread": 3.0, "sparsity": -0.2, "broken": 0.4}
    drift = told(**{effect: np.full(4, value) for effect, value in values.items()})
    assert [row["size"] for row in drift.channels()] == [1.5] * 4


@given(st.integers(0, 99), st.sampled_from([0.0, 0.4]))
def test_a_score_is_the_root_mean_square_of_its_effects(seed: int, zeros: float) -> None:
    now, baseline = stats_of(seed, zeros=zeros), stats_of(seed + 1)
    drift = compare(now, baseline)
    assert set(drift.scores) == {"shift", "spread", *(("sparsity",) if zeros else ())}
    for effect, score in drift.scores.items():
        assert score == assume_level(effect, drift.effects.of(effect), 1 / 50 + 1 / 30)
    assert drift.score == pytest.approx(np.sqrt(np.mean(np.square([*drift.scores.values()]))))


def test_with_shards_a_score_is_what_they_find_surprising() -> None:
    now, baseline = stats_of(0), stats_of(1)
    drift = compare(now, baseline, shards=5)
    parts = [compare(stats_of(100 + k), baseline).effects for k in range(5)]
    for effect in ("shift", "spread"):
        rows = np.stack([part.of(effect) for part in parts])
        samples = np.array([8, 12, 10, 11, 9.0])
        expected = surprise(drift.effects.of(effect), rows, samples, 1 / 50 + 1 / 30)
        assert drift.scores[effect] == pytest.approx(expected, rel=1e-9)


def test_a_layer_as_it_was_scores_nothing() -> None:
    drift = compare(stats_of(0), stats_of(0))
    assert (drift.score, drift.scores) == (0, {"shift": 0, "spread": 0})


def test_where_nothing_ever_differs_there_is_no_drift() -> None:
    same = stats_of(0)
    drift = compare_layer("a", "ReLU", same, same, [same] * 5, Evidence(9, 9, (9,) * 5), 16)
    assert (drift.score, drift.scores) == (0, {})
    drift = compare_layer("a", "ReLU", same, same, [same] * 5, Evidence(9, 9, (9,) * 5), 999)
    assert np.isnan(drift.score)


def test_one_channel_with_enough_elements_is_enough_for_no_drift() -> None:
    """Where nothing differs there is no effect to score: 0 if any channel could have had one."""
    x = np.random.default_rng(0).normal(size=(200, 4))
    for whole in range(5):
        x[10:, : 4 - whole] = np.nan
        x[:, 4 - whole :] = np.random.default_rng(1).normal(size=(200, whole))
        same = fmstats.channel_stats(torch.from_numpy(x), 1, backend="reference")
        drift = compare_layer("a", "ReLU", same, same, [same] * 5, Evidence(9, 9, (9,) * 5), 16)
        assert drift.scores == {}
        assert drift.score == 0 if whole else np.isnan(drift.score)


@pytest.mark.parametrize("shards", [0, 5])
def test_so_many_elements_are_enough_and_one_less_is_not(shards: int) -> None:
    few, many = stats_of(0, 16), stats_of(1)
    for now, baseline in ((few, many), (many, few)):
        assert np.isfinite(compare(now, baseline, shards, least=16).score)
        drift = compare(now, baseline, shards, least=17)
        assert np.isnan(drift.score)
        assert drift.scores == {}


@pytest.mark.parametrize("shards", [0, 5])
def test_channels_of_few_elements_count_for_nothing(shards: int) -> None:
    x, y = (np.random.default_rng(seed).normal(size=(200, 4)) for seed in (1, 2))
    x[10:, 3] = np.nan
    now, baseline = (
        fmstats.channel_stats(torch.from_numpy(v), 1, backend="reference") for v in (x, y)
    )
    x[:, 3] = np.nan
    gone = fmstats.channel_stats(torch.from_numpy(x), 1, backend="reference")
    assert compare(now, baseline, shards).scores == compare(gone, baseline, shards).scores


def test_a_channel_counts_by_its_share_that_is_finite() -> None:
    """On the side where that is less."""
    x, y = (np.random.default_rng(seed).normal(seed, 1, (400, 3)) for seed in (1, 2))
    x[:200, 0], y[:300, 0], y[:100, 1] = np.nan, np.nan, np.nan
    now, before = (
        fmstats.channel_stats(torch.from_numpy(v), 1, backend="reference") for v in (x, y)
    )
    drift = compare(now, before)
    for effect in ("shift", "spread"):
        squares = np.square(drift.effects.of(effect))
        size = np.sqrt(np.average(squares, weights=[0.25, 0.75, 1]))
        expected = size / (TYPICAL[effect] * math.sqrt(1 / 50 + 1 / 30))
        assert drift.scores[effect] == pytest.approx(expected, rel=1e-9)


def test_zeros_that_hardly_changed_are_left_out() -> None:
    """From a thousandth a sample on, of the root of the share."""
    bound, total = 1e-3 * math.sqrt(1 / 50 + 1 / 30), 1_000_000
    for count, known in ((math.floor(bound * total), False), (math.ceil(bound * total), True)):
        x = torch.ones(total, 1)
        x[:count] = 0
        now, before = (fmstats.channel_stats(v, 1) for v in (x, torch.ones(total, 1)))
        assert ("sparsity" in compare(now, before).scores) == known


@given(st.lists(st.floats(0, 5), min_size=2, max_size=6))
def test_more_of_a_shift_scores_no_less(steps: list[float]) -> None:
    base = stats_of(3)
    x = np.random.default_rng(0).normal(size=(200, 4))
    scores = []
    for step in sorted(steps):
        now = fmstats.channel_stats(torch.from_numpy(x + step + 5), 1, backend="reference")
        scores.append(compare(now, base).scores["shift"])
    assert all(one <= other * (1 + 1e-9) for one, other in pairwise(scores))


def test_the_share_is_of_both_sides() -> None:
    assert Evidence(4, 2).share == Evidence(2, 4).share == 0.75
