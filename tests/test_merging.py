"""Merging: laws of profiles with their metadata, what does not fit, and many files."""

from __future__ import annotations

import itertools
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from profile_files import assert_same_profiles, layer_of, profile_of, some_profile
from tolerances import ROUNDING, assert_equal_states
from torch import nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.models.wrappers import hash_structure
from fmstats.profiles.metadata import MOST_SOURCES, merge_metadata
from fmstats.profiles.profile import Profile
from fmstats.profiles.stacks import Stack
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.storage import merge_files, save

KNOWN = ("type", "channel_dim", "shape", "dtype", "calls", "backend")


def assert_equal_up_to_rounding(a: Profile, b: Profile) -> None:
    assert set(a) == set(b)
    for name in a:
        assert_equal_states(a[name].state, b[name].state, ROUNDING)
        for field in KNOWN:
            assert getattr(a.info[name], field) == getattr(b.info[name], field), field
    seconds = [dict(p.metadata).pop("seconds", 0.0) for p in (a, b)]
    assert seconds[0] == pytest.approx(seconds[1], rel=1e-12)
    rest = [{k: v for k, v in p.metadata.items() if k != "seconds"} for p in (a, b)]
    assert rest[0] == rest[1]


TIMES = st.integers(1, 28).map(lambda day: f"2026-02-{day:02}T10:00:00+00:00")
METADATA = st.fixed_dictionaries(
    {"model": st.just("Net"), "of": st.just("output")},
    optional={
        "samples": st.integers(0, 2**40),
        "passes": st.integers(0, 9),
        "seconds": st.floats(0, 1e6),
        "started": TIMES,
        "ended": TIMES,
        "data": st.sampled_from(["photos", "scans"]),
        "skipped": st.lists(st.sampled_from("abc"), max_size=2, unique=True).map(sorted),
        "every": st.integers(1, 2),
        "backends": st.sampled_from([{"cpu": "cpu"}, {"cuda:0": "cuda"}]),
        "note": st.none() | st.sampled_from(["x", 3]),
    },
)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Of one model; not each has seen each layer."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    info = {}
    for name, channels in (("a", 3), ("b", 1), ("c", 4)):
        if not draw(st.booleans()) and name != "a":
            continue
        x = torch.randn(draw(st.integers(1, 9)), channels) * 10 ** draw(st.integers(-3, 3))
        if draw(st.booleans()):
            x[0, 0] = draw(st.sampled_from([torch.nan, torch.inf, -torch.inf, 0.0]))
        dtype = draw(st.sampled_from(["float32", "bfloat16"]))
        backend = draw(st.sampled_from(["cpu", "torch", "cpu, torch"]))
        info[name] = layer_of(x, dtype=dtype, backend=backend, calls=draw(st.integers(1, 5)))
    return Profile(info, draw(METADATA))


@settings(max_examples=60)
@given(profiles(), profiles(), profiles(), st.sampled_from(["keep", "drop"]))
def test_order_and_grouping_make_no_difference(
    a: Profile, b: Profile, c: Profile, missing: str
) -> None:
    want = a.merge(b, c, missing=missing)
    for x, y, z in itertools.permutations((a, b, c)):
        got = x.merge(y, missing=missing).merge(z, missing=missing)
        assert_equal_up_to_rounding(got, want)
        got = x.merge(y.merge(z, missing=missing), missing=missing)
        assert_equal_up_to_rounding(got, want)


def test_all_layers_at_once_are_each_layer_by_itself() -> None:
    a, b = some_profile(), some_profile(1)
    merged = a | b
    for name in a:
        assert torch.equal(merged[name].state.words, a[name].merge(b[name]).state.words), name
    other_order = Profile(dict(reversed(b.info.items())), b.metadata)
    assert_same_profiles(a | other_order, merged)


def test_blocks_of_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = some_profile(), some_profile(1)
    whole = a | b
    monkeypatch.setattr("fmstats.profiles.merging._BLOCK", 3)  # of 10
    assert_same_profiles(a | b, whole)


def test_a_stack_is_the_profile() -> None:
    assert_same_profiles(Stack.of(some_profile()).profile(), some_profile())


@pytest.mark.parametrize("others", [0, 1])
def test_what_is_merged_shares_no_memory_with_its_parts(others: int) -> None:
    a = some_profile(samples=1)
    merged = a.merge(*[some_profile(1)] * others)
    merged.metadata["samples"] = 5
    merged.info.clear()
    assert_same_profiles(a, some_profile(samples=1))


def test_what_is_known_of_a_layer() -> None:
    small, large = torch.randn(2, 3), torch.randn(8, 3)
    a = profile_of({"a": layer_of(large, calls=2, backend="cpu")})
    b = profile_of({"a": layer_of(small, calls=3, backend="torch", dtype="float16")})
    layer = (a | b).info["a"]
    assert (layer.calls, layer.shape) == (5, (8, 3))
    assert (layer.dtype, layer.backend) == ("float16, float32", "cpu, torch")


def test_keep_and_drop() -> None:
    a, b = some_profile(), some_profile(1)
    x = torch.randn(3, 2)
    a.info["old"], b.info["new"] = layer_of(x), layer_of(x)
    kept, dropped = a.merge(b, missing="keep"), a.merge(b, missing="drop")
    assert list(kept) == ["b.conv", "a.relu", "head", "old", "new"]
    assert list(dropped) == ["b.conv", "a.relu", "head"]
    for name in ("old", "new"):
        assert torch.equal(kept[name].state.words, layer_of(x).stats.state.words)
    for name in dropped:
        assert torch.equal(kept[name].state.words, dropped[name].state.words)


def test_drop_takes_the_layers_that_fit() -> None:
    """Of two versions of a model, those whose type, channels and thresholds are the same."""
    x = torch.randn(3, 2)
    same = layer_of(x)
    a = profile_of(dict.fromkeys("abcde", same), structure="1" * 64)
    b = profile_of(
        {
            "a": same,
            "b": layer_of(torch.randn(3, 4)),
            "c": layer_of(x, Thresholds(0.5)),
            "d": layer_of(x, type="Linear"),
            "e": layer_of(x[:2], channel_dim=0),
        },
        structure="2" * 64,
    )
    both = a.merge(b, missing="drop")
    assert list(both) == ["a"]
    assert both["a"].count.tolist() == [6, 6]
    assert both.metadata["differs"] == ["structure"]
    assert list(both.merge(a, missing="drop")) == ["a"]
    for name in "bcde":
        one, other = (Profile({name: p.info[name]}, {}) for p in (a, b))
        with pytest.raises(FmstatsError, match=rf"^cannot merge layer '{name}': "):
            one.merge(other, missing="keep")
    with pytest.raises(FmstatsError, match=r"^cannot merge profiles that have no layer in common"):
        a.merge(profile_of({"z": same}), missing="drop")


def test_other_models_do_not_merge() -> None:
    a, b = some_profile(structure="1" * 64), some_profile(structure="2" * 64)
    with pytest.raises(
        FmstatsError,
        match=r"^cannot merge profiles of different models: Net \(11111111\) and Net \(22222222\) "
        r"have other layers, or parameters of other shapes; missing='drop' \(--missing drop\) ",
    ):
        a | b
    assert len(a.merge(b, missing="keep")) == len(a.merge(b, missing="drop")) == 3


@pytest.mark.parametrize("missing", ["refuse", "keep", "drop"])
@pytest.mark.parametrize(
    ("option", "one", "other"),
    [("of", "output", "input"), ("when", "train", "eval"), ("per_call", False, True)],
)
def test_other_options_do_not_merge(missing: str, option: str, one: Any, other: Any) -> None:
    a, b = some_profile(**{option: one}), some_profile(**{option: other})
    with pytest.raises(
        FmstatsError, match=rf"^cannot merge profiles made with {option}={one!r} and {option}="
    ):
        a.merge(b, missing=missing)


def test_other_types_do_not_merge() -> None:
    x = torch.randn(3, 2)
    a, b = profile_of({"a": layer_of(x)}), profile_of({"a": layer_of(x, type="Linear")})
    with pytest.raises(FmstatsError, match=r"^cannot merge layer 'a': Conv2d and Linear$"):
        a | b


def test_an_unknown_word() -> None:
    message = r"^missing='ignore': choose 'refuse', 'keep' or 'drop'$"
    with pytest.raises(FmstatsError, match=message):
        some_profile().merge(missing="ignore")
    with pytest.raises(FmstatsError, match=message):
        merge_files([], missing="ignore")


def test_metadata() -> None:
    a = {"samples": 3, "seconds": 1.5, "started": "2026-01-02", "ended": "2026-01-03"}
    b = {"samples": 4, "seconds": 2.0, "started": "2026-01-01", "ended": "2026-01-02"}
    both = merge_metadata({**a, "data": "x", "every": 1}, {**b, "data": "y", "every": 1, "z": 0})
    assert both == {
        **{"samples": 7, "seconds": 3.5, "started": "2026-01-01", "ended": "2026-01-03"},
        **{"profiles": 2, "sources": ["x", "y"], "differs": ["data"], "every": 1, "z": 0},
    }
    assert merge_metadata(both, both)["profiles"] == 4


def test_images_prepared_otherwise() -> None:
    """What both agree in is kept; else neither's is, and `differs` says so."""
    one, other = ({"inputs": {"image_size": n, "mean": [0.5] * 3}} for n in (64, 224))
    assert merge_metadata(one, one) == {**one, "profiles": 2}
    assert merge_metadata(one, other) == {"profiles": 2, "differs": ["inputs"]}


def test_what_once_differed_stays_so() -> None:
    """A later profile that agrees with the first one does not bring the value back."""
    a, b = {"day": "Monday"}, {"day": "Tuesday"}
    for both in (merge_metadata(merge_metadata(a, b), a), merge_metadata(a, merge_metadata(b, a))):
        assert both == {"profiles": 3, "differs": ["day"]}


def test_values_of_another_kind_are_not_added() -> None:
    both = merge_metadata({"samples": "3", "started": 1}, {"samples": 4, "started": "2026"})
    assert both == {"profiles": 2, "differs": ["samples", "started"]}
    assert merge_metadata({"samples": True}, {"samples": True})["samples"] is True


def test_sources_are_bounded() -> None:
    names = [f"{i:04}" for i in range(3 * MOST_SOURCES)]
    both = merge_metadata({"sources": names[::2]}, {"sources": names[1::2]})
    assert both["sources"] == names[:MOST_SOURCES]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.fmstats" for i in range(3)]
    for i, path in enumerate(paths):
        save(some_profile(i, samples=i, data="photos"), path)
    return paths


def test_files(files: list[Path]) -> None:
    merged = merge_files(files)
    want = some_profile(0).merge(some_profile(1), some_profile(2))
    for name in want:
        assert torch.equal(merged[name].state.words, want[name].state.words)
    assert merged.metadata["samples"] == 3
    assert merged.metadata["profiles"] == 3
    assert merged.metadata["sources"] == list(map(str, files))
    merged.save(files[0])
    again = fmstats.merge_files(files).metadata
    assert (again["profiles"], again["sources"]) == (5, list(map(str, files)))


def test_one_file_and_none(files: list[Path]) -> None:
    one = merge_files(files[:1])
    assert one.metadata == {
        **some_profile(samples=0, data="photos").metadata,
        "sources": [str(files[0])],
    }
    one.metadata = some_profile().metadata
    assert_same_profiles(one, some_profile())
    with pytest.raises(FmstatsError, match=r"^merge_files\(\) was given no file$"):
        merge_files([])


def test_the_file_that_does_not_fit_is_named(files: list[Path]) -> None:
    save(profile_of({"head": layer_of(torch.randn(4, 2))}), files[1])
    with pytest.raises(
        FmstatsError,
        match=r"1\.fmstats' does not fit the files before it: cannot merge profiles of different ",
    ):
        merge_files(files)
    assert list(merge_files(files, missing="drop")) == ["head"]
    files[2].write_bytes(files[0].read_bytes()[:-1])
    with pytest.raises(FmstatsError, match=r"cannot read profile '.*2\.fmstats': .*cut short"):
        merge_files(files, missing="drop")


def test_many_files_need_the_memory_of_two(tmp_path: Path) -> None:
    channels, path = 100_000, tmp_path / "p.fmstats"
    few = layer_of(torch.randn(2, 10))
    many = State(few.stats.state.words.repeat(1, channels // 10))
    save(profile_of({"a": replace(few, stats=ChannelStats(many))}), path)
    merge_files([path] * 3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    merged = merge_files([path] * 40)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert merged["a"].count.tolist() == [80] * channels
    assert grown < 5 * 88 * channels / 1024  # KiB; 40 states are 8 times that


def net(width: int = 4, act: type[nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), act(), nn.BatchNorm2d(width))


def test_the_structure_of_a_model() -> None:
    same = hash_structure(net())
    assert len(same) == 64
    assert hash_structure(net()) == same
    assert hash_structure(net().half().eval()) == same
    assert hash_structure(torch.compile(net(), backend="eager")) == same
    others = [net(5), net(act=nn.GELU), nn.Sequential(*net(), nn.Flatten()), net()[:2]]
    assert len({same, *map(hash_structure, others)}) == 5
    renamed = nn.Sequential()
    for name, module in zip("abc", net(), strict=True):
        renamed.add_module(name, module)
    assert hash_structure(renamed) != same


def test_the_structure_of_a_model_that_has_no_parameters_yet() -> None:
    lazy = nn.Sequential(nn.LazyConv2d(4, 3))
    assert hash_structure(lazy) == hash_structure(nn.Sequential(nn.LazyConv2d(4, 3)))


def test_profiles_of_two_models_are_told_apart() -> None:
    x = torch.randn(2, 3, 6, 6)
    parts = []
    for width in (4, 5):
        model = net(width)
        with fmstats.track(model, include=["1"], channel_dim=3) as tracker:
            model(x)
        parts.append(tracker.stats())
    with pytest.raises(FmstatsError, match="profiles of different models: Sequential"):
        parts[0] | parts[1]


@pytest.mark.parametrize("other", [{}, None, "run.fmstats"])
def test_what_is_no_profile_is_refused(other):
    message = rf"^merge\(\) takes a Profile, got {type(other).__name__}$"
    with pytest.raises(FmstatsError, match=message):
        some_profile().merge(other)


@pytest.mark.parametrize("missing", ["keep", "drop"])
def test_a_profile_without_layers_is_no_obstacle(missing: str) -> None:
    """A run that measured nothing, yet: with "drop" nothing is common, which is no error."""
    full, empty = some_profile(samples=3), Profile({}, {"samples": 2})
    for both in (full.merge(empty, missing=missing), empty.merge(full, missing=missing)):
        assert set(both) == (set(full) if missing == "keep" else set())
        assert both.metadata["samples"] == 5
    with pytest.raises(FmstatsError, match="no layer in common"):
        full.merge(profile_of({"x": layer_of(torch.randn(2, 2))}), missing="drop")


def test_what_was_merged_keeps_its_sources(tmp_path: Path) -> None:
    """Those of a merged file are the files that it was merged from, not its own name."""
    for number in range(3):
        some_profile(number, samples=1).save(tmp_path / f"{number}.fmstats")
    paths = [str(tmp_path / f"{number}.fmstats") for number in range(3)]
    both = fmstats.merge_files(paths[:2])
    both.save(tmp_path / "both.fmstats")
    whole = fmstats.merge_files([tmp_path / "both.fmstats", paths[2]])
    assert whole.metadata["sources"] == paths
    assert whole.metadata["profiles"] == 3
    assert whole.metadata["samples"] == 3
