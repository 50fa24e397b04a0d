"""What chance gives: 1 on average, whatever the sizes, and steps off the usual ways count more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fmstats.drift.noise import LARGEST, TYPICAL, assume_level, surprise


def draw_effects(rng: np.random.Generator, samples: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """Effects of so many samples: large along a few ways, small everywhere."""
    along = 3 * rng.normal(size=(len(samples), len(ways))) @ ways
    noise = along + rng.normal(size=along.shape)
    return noise / np.sqrt(samples)[:, None]


@pytest.mark.parametrize("shards", [3, 6, 20])
@pytest.mark.parametrize("now", [5, 500])
def test_chance_gives_one(shards: int, now: int) -> None:
    scores = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        samples = rng.integers(5, 50, shards).astype(float)
        effects = draw_effects(rng, np.append(samples, now), rng.normal(size=(2, 60)))
        baseline = samples @ effects[:-1] / samples.sum()
        change = effects[-1] - baseline
        share = 1 / now + 1 / samples.sum()
        scores.append(surprise(change, effects[:-1], samples, share))
    assert 0.7 < np.median(scores) < 1.2


def test_a_step_off_the_usual_ways_counts_more() -> None:
    rng = np.random.default_rng(0)
    ways = rng.normal(size=(2, 60))
    samples = np.full(12, 10.0)
    shards = draw_effects(rng, samples, ways)
    usual = ways[0] / np.linalg.norm(ways[0])
    other = rng.normal(size=60)
    other -= usual * (usual @ other)
    other /= np.linalg.norm(other)
    along, off = (surprise(3 * step, shards, samples, 1 / 100) for step in (usual, other))
    assert off > 2 * along > 0


@pytest.mark.parametrize("offset", [0.0, 10.0])  # effects end there
@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("seed", range(4))
def test_by_the_formula(offset: float, channels: int, seed: int) -> None:
    """With the matrices that the module's head has, and no products of rows alone."""
    rng = np.random.default_rng(seed)
    samples, share = np.array([4.0, 7.0, 9.0, 2.0]), 0.3
    shards, change = offset + rng.normal(size=(4, channels)), rng.normal(size=channels)

    def distance(step: np.ndarray, chosen: np.ndarray, n: np.ndarray) -> float:
        apart = chosen - n @ chosen / n.sum()
        s = (apart * n[:, None]).T @ apart / (len(n) - 1)
        ridge = 0.1 * np.trace(s) / channels
        return float(step @ np.linalg.inv(s + ridge * np.eye(channels)) @ step)

    level, change_levels = [], []
    for k in range(4):
        rest, n = np.delete(shards, k, 0), np.delete(samples, k)
        step = (shards[k] - n @ rest / n.sum()) / np.sqrt(1 / samples[k] + 1 / n.sum())
        level.append(distance(step, rest, n))
        change_levels.append(distance(change / np.sqrt(share), rest, n))
    expected = min(LARGEST, np.sqrt(np.mean(change_levels) / np.mean(level)))
    assert surprise(change, shards, samples, share) == pytest.approx(expected, rel=1e-9)


def test_no_change_and_shards_that_never_differ() -> None:
    rng = np.random.default_rng(0)
    samples = np.full(4, 10.0)
    assert surprise(np.zeros(5), rng.normal(size=(4, 5)), samples, 0.1) == 0
    still = np.ones((4, 5))
    assert np.isnan(surprise(np.zeros(5), still, samples, 0.1))
    assert surprise(np.ones(5), still, samples, 0.1) == LARGEST


@pytest.mark.parametrize("share", [0.01, 0.25])
def test_a_change_counts_beside_still_shards_from_so_much_per_sample_on(share: float) -> None:
    """One of 1e-3 per sample: as much as the root of the share less in the profiles."""
    still, samples = np.ones((4, 5)), np.full(4, 10.0)
    size = 1e-3 * np.sqrt(share)
    assert surprise(np.full(5, 1.01 * size), still, samples, share) == LARGEST
    assert np.isnan(surprise(np.full(5, 0.99 * size), still, samples, share))


@pytest.mark.parametrize("size", [0.9e-3, 1.1e-3])
def test_shards_that_hardly_differ_give_no_level(size: float) -> None:
    """By the same bound, of the root of the mean variance of one sample."""
    rng = np.random.default_rng(3)
    samples = np.full(8, 25.0)
    effects = rng.normal(size=(8, 400))
    effects *= size / 5 / effects.std(0, ddof=1)
    assert np.isnan(surprise(np.zeros(400), effects, samples, 0.1)) == (size < 1e-3)


def test_shards_that_differ_less_than_chance_gives() -> None:
    """Of a, -a, a, -a each is as far from the others as S says, less the ridge."""
    shards, samples = np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.full(4, 10.0)
    s = 10 * (2 * (2 / 3) ** 2 + (4 / 3) ** 2) / 2
    found = surprise(np.array([0.3]), shards, samples, 0.05)
    assert found == pytest.approx(np.sqrt(0.3**2 / 0.05 / s), rel=1e-9)


def test_what_is_assumed_is_what_the_docs_say() -> None:
    said = (
        f"{TYPICAL['shift']} standard deviations (shift), {TYPICAL['spread']} (spread) and "
        f"{TYPICAL['sparsity']} (sparsity) for one image"
    )
    page = Path(__file__).parent.parent / "docs" / "drift.md"
    assert said in " ".join(page.read_text().split())


def test_what_is_assumed_goes_with_the_root_of_samples() -> None:
    change = np.array([0.3, -0.4])
    size = np.sqrt((0.09 + 0.16) / 2)
    assert assume_level("shift", change, 1.0) == pytest.approx(size / TYPICAL["shift"])
    assert assume_level("shift", change, 0.01) == pytest.approx(10 * size / TYPICAL["shift"])
    assert assume_level("shift", 1e6 * change, 0.01) == LARGEST
