"""Effects of distributions: the numbers are those defined, and they find what moments miss."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
import torch
from diagnosis_profiles import layer_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fmstats
from fmstats import Profile
from fmstats.drift import THRESHOLD, Comparison
from fmstats.drift.distributions import (
    DISTRIBUTION,
    SHARES,
    DistributionEffects,
    Ruler,
    describe_bins,
    find_bins,
)
from fmstats.drift.effects import LIMIT
from fmstats.statistic.bins import Bins
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.measures import Measures

SCOPES = ("layer", "channel")
SEEDS = st.integers(0, 2**31)


def histogram(scope: str, resolution: int = 4) -> Measures:
    return Measures.of("histogram", Bins(scope, resolution))


def stats_of(x: np.ndarray, scope: str = "channel", resolution: int = 4) -> ChannelStats:
    return layer_of(torch.from_numpy(x), measures=histogram(scope, resolution)).stats


def measure(now: np.ndarray, before: np.ndarray, scope: str = "channel") -> DistributionEffects:
    one, other = stats_of(now, scope), stats_of(before, scope)
    return Ruler.between(one, other).measure(one)


def draw(seed: int, count: int = 2000, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.normal(size=channels), rng.uniform(0.1, 3, channels), (count, channels))
    return np.where(rng.random(x.shape) < rng.choice([0.0, 0.4]), 0.0, x)


def flatten(x: np.ndarray, scope: str) -> list[np.ndarray]:
    return [x.ravel()] if scope == "layer" else list(x.T)


def move(a: np.ndarray, b: np.ndarray) -> float:
    """The distance of samples of one size, sorted; the definition."""
    return float(np.abs(np.sort(a) - np.sort(b)).mean() / b.std())


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(SCOPES))
def test_equal_distributions_have_no_effect(seed: int, scope: str) -> None:
    x = draw(seed)
    effects = measure(x, x, scope)
    assert all((effects.of(effect) == 0).all() for effect in DISTRIBUTION)
    assert all(len(effects.of(e)) == (1 if scope == "layer" else 3) for e in DISTRIBUTION)
    assert effects.scope == scope


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(SCOPES))
def test_the_distance_is_that_of_sorted_numbers(seed: int, scope: str) -> None:
    """To the width of bins, a sixteenth of a magnitude."""
    a, b = draw(seed), draw(seed + 1)
    found = measure(a, b, scope).wasserstein
    for got, x, y in zip(found, flatten(a, scope), flatten(b, scope), strict=True):
        width = (np.abs(x).mean() + np.abs(y).mean()) / y.std() / 16
        assert got == pytest.approx(min(move(x, y), LIMIT), rel=1e-6, abs=width / 4)


def test_within_a_bin_the_sides_may_cross() -> None:
    """Of numbers that are spread evenly in each bin the distance is exact, however wide it is."""
    even = (np.arange(1000) + 0.5) / 1000
    a, b = np.concatenate([0.5 + even / 2, 2 + 2 * even]), np.concatenate([1 + even, 1 + even])
    one, other = (stats_of(x[:, None], resolution=0) for x in (a, b))
    found = Ruler.between(one, other).measure(one)
    assert found.wasserstein[0] == pytest.approx(move(a, b), rel=0.01)


def test_on_one_side_parts_add_up_to_the_distance() -> None:
    even = (np.arange(1000) + 0.5) / 1000
    one, other = (stats_of(x[:, None], resolution=0) for x in (2 + 2 * even, 1 + even))
    ruler = Ruler.between(one, other)
    parts = np.nansum(ruler.standardise(one)["wasserstein"], 1)
    assert -parts == pytest.approx(ruler.measure(one).wasserstein, rel=0.01)


def test_a_step_within_a_bin_is_that_of_the_means() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(1.03, 0.001, (2000, 1))
    want = move((x + 0.002).ravel(), x.ravel())
    assert measure(x + 0.002, x).wasserstein[0] == pytest.approx(want, rel=1e-6)


def test_distances_are_in_deviations_of_the_baseline() -> None:
    x = draw(3)
    wide, plain = measure(4 * x, 2 * x), measure(2 * x, x)
    np.testing.assert_allclose(wide.wasserstein, plain.wasserstein, rtol=1e-9)
    assert measure(x, 2 * x).wasserstein == pytest.approx(plain.wasserstein / 2, rel=1e-9)


def test_disjoint_distributions() -> None:
    x = np.random.default_rng(0).uniform(1, 2, (4000, 1))
    effects = measure(-x, x)
    assert effects.js[0] == pytest.approx(1)
    parts = 20  # of which half are empty on either side
    full = np.log((4000 / (parts / 2) + 0.5) / 0.5)
    assert effects.psi[0] == pytest.approx(2 * full * 4000 / (4000 + parts / 2), rel=0.15)


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(SCOPES))
def test_sides_are_alike_to_psi_and_js(seed: int, scope: str) -> None:
    a, b = draw(seed), draw(seed + 1)
    one, other = measure(a, b, scope), measure(b, a, scope)
    for effect in ("psi", "js"):
        assert (one.of(effect) >= 0).all()
        np.testing.assert_allclose(one.of(effect), other.of(effect), rtol=1e-9, atol=1e-12)
    assert (one.js <= 1 + 1e-12).all()


def test_shares_by_the_formula() -> None:
    """Two values: a share of 0.5 that becomes one of 0.7."""
    x, y = (np.where(np.arange(1000) < 1000 * share, 1.0, 4.0)[:, None] for share in (0.7, 0.5))
    effects = measure(x, y)
    p, q = (np.array([700, 300]) + 0.5) / 1001, np.array([0.5, 0.5])
    assert effects.psi[0] == pytest.approx(((p - q) * np.log(p / q)).sum(), rel=1e-9)
    p, middle = np.array([0.7, 0.3]), np.array([0.6, 0.4])
    js = (p * np.log2(p / middle) + q * np.log2(q / middle)).sum() / 2
    assert effects.js[0] == pytest.approx(js, rel=1e-9)
    assert effects.wasserstein[0] == pytest.approx(0.2 * 3 / 1.5, rel=0.05)


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(SCOPES), st.integers(20, 5000))
def test_every_part_has_enough_elements(seed: int, scope: str, count: int) -> None:
    one, other = stats_of(draw(seed, count), scope), stats_of(draw(seed + 1, 2 * count), scope)
    ruler = Ruler.between(one, other)
    few = int(one.distribution.total.min())
    least = max(0.05, 5 / few)
    sizes = ruler.sizes[np.isfinite(ruler.sizes)]
    assert sizes.min() >= min(least, 1) * (1 - 1e-6)
    np.testing.assert_allclose(np.nansum(ruler.sizes, 1), 1)
    assert (np.diff(ruler.ends, axis=1) >= 0).all()


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(SCOPES))
def test_what_chance_is_judged_of_adds_up_to_the_effects(seed: int, scope: str) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0.05, 1.02, (20_000, 2)), rng.normal(0, 1, (20_000, 2))
    one, other = stats_of(a, scope), stats_of(b, scope)
    ruler = Ruler.between(one, other)
    moved, effects = ruler.standardise(one), ruler.measure(one)
    distance = np.nansum(np.abs(moved["wasserstein"]), 1)
    assert (distance <= effects.wasserstein * (1 + 1e-9)).all()
    assert (distance >= effects.wasserstein * 0.8).all()
    squares = np.nansum(np.square(moved[SHARES]), 1)
    np.testing.assert_allclose(squares, effects.psi, rtol=0.05)
    np.testing.assert_allclose(squares, 8 * math.log(2) * effects.js, rtol=0.05)


def test_what_chance_is_judged_of_is_linear() -> None:
    """Of two halves together it is the mean: so chance goes with the number of samples."""
    a, b, base = (stats_of(draw(seed)) for seed in (1, 2, 3))
    ruler = Ruler.between(a | b, base)
    whole, halves = ruler.standardise(a | b), [ruler.standardise(s) for s in (a, b)]
    for effect, values in whole.items():
        mean = (halves[0][effect] + halves[1][effect]) / 2
        np.testing.assert_allclose(values, mean, rtol=1e-6, atol=1e-9)


def test_nothing_finite_and_constants() -> None:
    x = np.ones((400, 3))
    now = x * [1.0, 2.0, np.nan]
    with np.errstate(all="raise"):
        effects = measure(now, x)
    assert effects.wasserstein[:2].tolist() == [0, LIMIT]
    assert np.isnan([effects.of(effect)[2] for effect in DISTRIBUTION]).all()
    assert effects.js[:2] == pytest.approx([0, 1])
    assert np.isnan(measure(x * np.nan, x, "layer").js).all()


def test_bins_of_all_are_the_same() -> None:
    x = draw(0)
    fine, coarse, plain = (
        stats_of(x),
        stats_of(x, resolution=2),
        layer_of(torch.from_numpy(x)).stats,
    )
    assert find_bins([fine, fine]) == Bins("channel", 4)
    assert find_bins([fine, coarse]) is find_bins([fine, plain]) is find_bins([plain]) is None
    assert describe_bins(plain, plain, []) == describe_bins(fine, fine, [fine] * 3) == []
    assert describe_bins(fine, coarse, []) == [
        "distributions were not compared: a histogram of each channel, 16 bins an octave here, a "
        "histogram of each channel, 4 bins an octave in the baseline"
    ]
    assert describe_bins(plain, fine, [])[0].startswith(
        "distributions were not compared: none here, a"
    )
    assert describe_bins(fine, fine, []) == [
        "distributions do not count: only calibration shows how they differ by chance"
    ]
    assert describe_bins(fine, fine, [fine, plain]) == [
        "distributions do not count: not all shards of the baseline have a histogram of each "
        "channel, 16 bins an octave"
    ]


# --- what moments miss: shapes of the same mean and variance

SHARDS, PER_SHARD = 16, 8


def keep(x: Tensor) -> Tensor:
    return x


def split(x: Tensor) -> Tensor:
    """Two modes, at -0.95 and 0.95."""
    return 0.95 * x.sign() + math.sqrt(1 - 0.95**2) * torch.randn(x.shape)


def fatten(x: Tensor) -> Tensor:
    """One element in twenty is three times as large as usual, the others less."""
    rare = torch.rand(x.shape) < 0.05
    return x * torch.where(rare, math.sqrt((1 - 0.95 * 0.75**2) / 0.05), 0.75)


@cache
def profile_shards(
    change: Callable[[Tensor], Tensor], seed: int, measured: str | None = "layer"
) -> list[Profile]:
    """Of samples that have a brightness and a contrast of their own, as images do."""
    torch.manual_seed(seed)
    options = {} if measured is None else {"measure": "histogram", "histogram": measured}
    found = []
    for _ in range(SHARDS):
        brightness = torch.randn(PER_SHARD, 6, 1) / 2
        contrast = torch.rand(PER_SHARD, 6, 1) / 2 + 0.75
        x = contrast * change(torch.randn(PER_SHARD, 6, 144)) + brightness
        profile = fmstats.profile(
            nn.Identity(), [x], progress=False, backend="torch", channel_dim=1, **options
        )
        profile.metadata["samples"] = PER_SHARD
        found.append(profile)
    return found


def merged(shards: Sequence[Profile]) -> Profile:
    return shards[0].merge(*shards[1:])


def compare_halves(
    changed: list[Profile], clean: list[Profile], splits: int = 10
) -> list[Comparison]:
    choose, found = np.random.default_rng(3), []
    for _ in range(splits):
        order = choose.permutation(SHARDS)
        now, baseline = [changed[i] for i in order[:8]], [clean[i] for i in order[8:]]
        found.append(merged(now).compare(merged(baseline), calibration=baseline))
    return found


def test_shapes_have_the_same_mean_and_variance() -> None:
    torch.manual_seed(0)
    for change in (keep, split, fatten):
        x = change(torch.randn(200_000))
        assert abs(float(x.mean())) < 0.01
        assert float(x.var()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("change", [split, fatten])
def test_moments_miss_a_change_of_shape(change: Callable[[Tensor], Tensor]) -> None:
    found = compare_halves(profile_shards(change, 5, None), profile_shards(keep, 2, None))
    assert sum(comparison.drift for comparison in found) <= 1
    assert 0.6 < np.median([comparison.score for comparison in found]) < 1.3


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("change", [split, fatten])
def test_distributions_find_it(change: Callable[[Tensor], Tensor], scope: str) -> None:
    found = compare_halves(profile_shards(change, 5, scope), profile_shards(keep, 2, scope))
    assert all(comparison.drift for comparison in found)
    # Without them the score is that of moments alone, to the last bit.
    plain = compare_halves(profile_shards(change, 5, None), profile_shards(keep, 2, None))
    for comparison, of_moments in zip(found, plain, strict=True):
        assert comparison.layers[0].score_of_moments == of_moments.layers[0].score
        told = "found in distributions, by Wasserstein-1 (W1) or by shares (PSI, JS): the score of "
        assert (of_moments.score < THRESHOLD) == (told in " ".join(comparison.reasons))


@pytest.mark.parametrize("scope", SCOPES)
def test_resamples_are_no_drift(scope: str) -> None:
    clean = profile_shards(keep, 2, scope)
    found = compare_halves(clean, clean, 20)
    assert sum(comparison.drift for comparison in found) <= 1
    assert 0.6 < np.median([comparison.score for comparison in found]) < 1.3


@pytest.mark.parametrize("scope", SCOPES)
def test_what_is_told_of_distributions(scope: str) -> None:
    changed, clean = profile_shards(split, 5, scope), profile_shards(keep, 2, scope)
    found = merged(changed).compare(merged(clean), calibration=clean)
    told = found.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    (row,), channels = told["layers"], told["channels"]
    assert row["psi"] > row["js"] > 0
    assert row["wasserstein"] > 0.1
    frame = found.to_pandas()
    assert frame.loc[0, list(DISTRIBUTION)].tolist() == [row[effect] for effect in DISTRIBUTION]
    layers, of_channels = (block.header for block in found.blocks() if not isinstance(block, str))
    assert [name for name in layers if name in ("W1", "PSI", "JS")] == ["W1", "PSI", "JS"]
    assert ("W1" in of_channels) == ("psi" in channels[0]) == (scope == "channel")
    if scope == "channel":
        assert all(channel["size"] >= channel["wasserstein"] for channel in channels)
        root = math.sqrt(np.mean([channel["js"] ** 2 for channel in channels]))
        assert row["js"] == pytest.approx(root)


def test_without_calibration_distributions_are_told_and_do_not_count() -> None:
    changed, clean = (merged(profile_shards(change, 2)) for change in (split, keep))
    found = changed.compare(clean)
    assert found.layers[0].score == found.layers[0].score_of_moments
    assert found.reasons == (
        "distributions do not count: only calibration shows how they differ by chance",
    )
    assert found.to_dict()["layers"][0]["wasserstein"] > 0.1


def test_shards_without_histograms_do_not_let_them_count() -> None:
    measured, plain = profile_shards(keep, 2), profile_shards(keep, 2, None)
    found = merged(measured[:8]).compare(merged(measured[8:]), calibration=plain[8:])
    want = merged(plain[:8]).compare(merged(plain[8:]), calibration=plain[8:])
    assert (found.score, found.layers[0].scores) == (want.score, want.layers[0].scores)
    assert "distributions do not count: not all shards" in found.reasons[0]


def test_a_profile_without_histograms_is_compared_as_ever() -> None:
    measured, plain = profile_shards(keep, 2), profile_shards(keep, 2, None)
    want = merged(plain[:8]).compare(merged(plain[8:]), calibration=plain[8:])
    assert want.layers[0].distribution is None
    assert want.layers[0].score == want.layers[0].score_of_moments
    assert not set(want.to_dict()["layers"][0]) & {*DISTRIBUTION}
    assert "W1" not in str(want)
    for one, other in ((measured, plain), (plain, measured)):
        found = merged(one[:8]).compare(merged(other[8:]), calibration=plain[8:])
        assert found.to_dict() | {"reasons": []} == want.to_dict()
        (reason,) = found.reasons
        assert reason.startswith("distributions were not compared: ")
