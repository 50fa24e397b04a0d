"""Profiles with measures on request: merging, sending, going on with a run."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from profile_files import assert_same_profiles, layer_of, profile_of, some_profile
from torch import Tensor, nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.profiles.profile import Profile
from fmstats.statistic.bins import Bins
from fmstats.statistic.measures import Measures
from fmstats.storage import save

EACH_LAYER = Measures.of(("abs", "kurtosis", "histogram"), Bins("layer", 3))
EACH_CHANNEL = Measures.of(("abs", "kurtosis", "histogram"), Bins("channel", 1))
BOTH = pytest.mark.parametrize("measures", [EACH_LAYER, EACH_CHANNEL], ids=["layer", "channel"])


def parts(measures: Measures) -> tuple[Tensor, list[Profile]]:
    torch.manual_seed(0)
    x = torch.randn(60, 5)
    return x, [
        profile_of(
            {"a": layer_of(part, measures=measures), "b": layer_of(-part, measures=measures)}
        )
        for part in x.split(20)
    ]


@BOTH
def test_merged_shards_are_all_data_together(measures: Measures, tmp_path: Path) -> None:
    x, shards = parts(measures)
    whole = layer_of(x, measures=measures).stats
    paths = [tmp_path / f"{i}.fmstats" for i in range(3)]
    for shard, path in zip(shards, paths, strict=True):
        save(shard, path)
    for merged in (shards[0].merge(*shards[1:]), fmstats.merge_files(paths)):
        assert merged["a"].state.bins is not None
        assert whole.state.bins is not None
        assert torch.equal(merged["a"].state.bins, whole.state.bins)
        for field in ("sum_abs", "m3", "m4"):
            torch.testing.assert_close(merged["a"].state[field], whole.state[field])


def test_a_layer_that_one_profile_lacks_keeps_its_histograms() -> None:
    _, shards = parts(EACH_CHANNEL)
    alone = Profile({"b": shards[1].info["b"]}, shards[1].metadata)
    for merged in (shards[0].merge(alone, missing="keep"), alone.merge(shards[0], missing="keep")):
        assert merged["a"].state.bins is not None
        assert torch.equal(merged["a"].state.bins, shards[0]["a"].state.bins)  # type: ignore[arg-type]


def test_profiles_of_other_measures_do_not_merge() -> None:
    plain, layers, channels = (
        some_profile(measures=measures) for measures in (Measures(), EACH_LAYER, EACH_CHANNEL)
    )
    for one, other, text in (
        (plain, layers, "one has none, the other abs, kurtosis, a histogram of each layer, 8 bins"),
        (
            layers,
            channels,
            r"of each layer, 8 bins an octave, the other .* of each channel, 2 bins",
        ),
    ):
        with pytest.raises(FmstatsError, match=f"^cannot merge profiles of different .*{text}"):
            one.merge(other)


@BOTH
def test_what_is_narrowed_merges_with_what_measures_less(measures: Measures) -> None:
    _, shards = parts(measures)
    _, others = parts(Measures.of("kurtosis"))
    narrowed = shards[0].narrowed("kurtosis")
    assert_same_profiles(narrowed.merge(others[1]), others[0].merge(others[1]))
    kept = shards[0].narrowed(["histogram", "abs"])["a"]
    assert (kept.measures.names, kept.measures.bins) == (("abs", "histogram"), measures.bins)
    assert torch.equal(kept.state["sum_abs"], shards[0]["a"].state["sum_abs"])
    assert_same_profiles(shards[0].narrowed(), parts(Measures())[1][0])


def test_what_is_narrowed_shares_no_memory_and_keeps_groups() -> None:
    whole, rows = some_profile(measures=EACH_LAYER), some_profile(1, EACH_LAYER).info
    profile = Profile(whole.info, whole.metadata, {"cat": rows})
    narrowed = profile.narrowed("histogram")
    of_group = narrowed.groups["cat"]["head"]
    assert of_group.measures.names == ("histogram",)
    assert of_group.quantile(0.5) == rows["head"].stats.quantile(0.5)
    held = narrowed["head"].state.bins
    assert held is not None
    held.zero_()
    assert profile["head"].quantile(0.5) != 0


def test_narrowing_to_what_was_not_measured() -> None:
    profile = some_profile(measures=Measures.of("abs"))
    with pytest.raises(
        FmstatsError, match=r"layer 'b\.conv' was measured without 'histogram': it ho"
    ):
        profile.narrowed(["abs", "histogram"])
    with pytest.raises(FmstatsError, match="measure='p99': choose among 'abs'"):
        profile.narrowed("p99")


@BOTH
def test_a_profile_is_sent_whole(measures: Measures) -> None:
    """As ranks send theirs."""
    profile = some_profile(measures=measures)
    assert_same_profiles(pickle.loads(pickle.dumps(profile)), profile)


def test_a_stopped_run_goes_on_with_its_histograms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, rows = nn.Sequential(nn.Linear(6, 4), nn.ReLU()), torch.randn(24, 6)
    asked = {"measure": ("abs", "kurtosis", "histogram"), "backend": "torch", "progress": False}

    class Stopping(list):  # type: ignore[type-arg]
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield from list.__iter__(self[:3])
            raise KeyboardInterrupt

    Stopping.__name__ = "list"
    batches = [(row,) for row in rows.split(4)]
    path = tmp_path / "run.fmstats"
    with pytest.raises(KeyboardInterrupt):
        fmstats.profile(model, Stopping(batches), checkpoint=path, **asked)
    assert fmstats.load(path)["0"].state["count"].tolist() == [12] * 4
    resumed = fmstats.profile(model, batches, checkpoint=path, **asked)
    whole = fmstats.profile(model, batches, **asked)
    assert torch.equal(resumed["1"].state.bins, whole["1"].state.bins)  # type: ignore[arg-type]
    torch.testing.assert_close(resumed["1"].state["m4"], whole["1"].state["m4"])
    with pytest.raises(FmstatsError, match=r"another run \(measure: .abs, kurtosis, hi"):
        fmstats.profile(model, batches, checkpoint=path, **{**asked, "measure": "abs"})


def test_groups_have_their_own_histograms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 3)), torch.randn(2, 5, 4)
    group = torch.tensor([[0, 0, 1, 1, -1]] * 2)
    for scope in ("layer", "channel"):
        with fmstats.track(
            model, backend="torch", measure="histogram", histogram=scope, groups=lambda *_: group
        ) as tracker:
            model(x)
        profile = tracker.stats()
        again = fmstats.Profile.from_bytes(profile.to_bytes())
        counts = [part["0"].state.bins.sum() for part in again.groups.values()]  # type: ignore[union-attr]
        assert counts == [12, 12]
        assert_same_profiles(again.groups["1"], profile.groups["1"])
