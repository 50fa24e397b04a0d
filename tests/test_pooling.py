"""Layers taken together by name: nothing is lost, and pooling commutes with merging."""

from __future__ import annotations

import pytest
import torch
from profile_files import assert_same_profiles, layer_of, profile_of, some_profile

from fmstats import Profile
from fmstats.errors import FmstatsError
from fmstats.statistic.thresholds import Thresholds

RELU6 = Thresholds(0.0, 0.0, 6.0)


def blocks(seed: int = 0) -> Profile:
    torch.manual_seed(seed)
    x = torch.randn(30, 3) * 4
    x[0, 0] = torch.nan
    return profile_of(
        {
            "a.0.conv": layer_of(x, calls=2),
            "a.0.act": layer_of(x.clamp(0, 6), RELU6, type="ReLU6", backend="cpu"),
            "a.1.act": layer_of(x[:, :2].clamp(0, 6), RELU6, type="ReLU6", dtype="float64"),
            "b": layer_of(x[:, :1]),
            "a.2": layer_of(x + 100),
        },
        samples=30,
    )


def test_a_block_has_all_elements_of_its_layers() -> None:
    profile = blocks()
    pooled = profile.pooled(1)
    assert list(pooled) == ["a", "b"]
    layers = [profile[name] for name in profile if name.startswith("a.")]
    block = pooled["a"]
    assert block.channels == 3 + 3 + 2 + 3
    for field in ("count", "nan", "zeros", "pos_inf", "neg_inf"):
        assert getattr(block, field).tolist() == [
            n for layer in layers for n in getattr(layer, field).tolist()
        ]
    whole = torch.cat([torch.from_numpy(layer.mean * layer.finite_count) for layer in layers])
    row, _ = pooled.layers()
    finite = sum(int(layer.finite_count.sum()) for layer in layers)
    assert row["mean"] == pytest.approx(float(whole.sum()) / finite, rel=1e-12)
    assert row["count"] == 30 * 11
    assert row["nan"] == 4
    assert row["max"] == max(float(layer.max.max()) for layer in layers)


def test_what_else_is_known_of_a_block() -> None:
    info = blocks().pooled(1).info
    assert (info["a"].type, info["a"].calls) == ("4 layers", 2 + 1 + 1 + 1)
    assert (info["a"].dtype, info["a"].backend) == ("float32, float64", "cpu, reference")
    assert info["a"].shape == (30, 3)
    assert (info["b"].type, info["b"].calls) == ("Conv2d", 1)


def test_saturation_is_known_where_the_bounds_are_the_same() -> None:
    profile = blocks()
    assert profile.pooled(1)["a"].saturated is None
    assert profile.pooled(1)["a"].sat_high.tolist() == [0] * 11
    assert profile.pooled(2)["a.0"].saturated is None
    acts = Profile({n: p for n, p in profile.info.items() if n.endswith("act")}, {})
    pooled, layers = acts.pooled(1)["a"], list(acts.values())
    assert pooled.thresholds == RELU6
    assert pooled.sat_high.tolist() == [n for s in layers for n in s.sat_high.tolist()]
    assert pooled.sat_high.sum() > 0


def test_zeros_are_those_that_each_layer_counted() -> None:
    x = torch.tensor([[0.0], [0.3], [2.0]])
    parts = {"a.0": layer_of(x), "a.1": layer_of(x, Thresholds(0.5))}
    block = profile_of(parts).pooled(1)["a"]
    assert block.zeros.tolist() == [1, 2]
    assert block.thresholds == Thresholds(0.5)


def test_depths() -> None:
    profile = blocks()
    assert list(profile.pooled(2)) == ["a.0", "a.1", "b", "a.2"]
    assert profile.pooled(2).info["a.1"].type == "ReLU6"  # alone, it is what it was
    assert_same_profiles(profile.pooled(3), profile)
    assert profile.pooled(1).metadata == profile.metadata
    with pytest.raises(FmstatsError, match="depth=0: give 1 or more parts of a name"):
        profile.pooled(0)


def test_pooling_changes_no_profile() -> None:
    profile = blocks()
    profile.pooled(1)
    assert_same_profiles(profile, blocks())


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("make", [blocks, some_profile])
def test_pooling_commutes_with_merging(make, depth) -> None:  # type: ignore[no-untyped-def]
    a, b = make(1), make(2)
    assert_same_profiles((a | b).pooled(depth), a.pooled(depth) | b.pooled(depth))


@pytest.mark.parametrize("depth", ["1", 1.0, None, 0])
def test_a_depth_that_is_no_number_of_parts(depth):
    with pytest.raises(FmstatsError, match=rf"^depth={depth!r}: give 1 or more parts of a name$"):
        Profile({}, {}).pooled(depth)


def test_a_block_ends_as_its_last_layer() -> None:
    first = layer_of(torch.randn(4, 3), shape=(4, 3), channel_dim=1)
    last = layer_of(torch.randn(4, 3), shape=(4, 7, 3), channel_dim=2)
    for parts, shape, dim in (
        ((first, last), (4, 7, 3), 2),
        ((last, first), (4, 3), 1),
        ((first, first, last), (4, 7, 3), 2),
    ):
        layers = {f"a.{number}": part for number, part in enumerate(parts)}
        block = profile_of(layers).pooled(1).info["a"]
        assert (block.shape, block.channel_dim) == (shape, dim)
