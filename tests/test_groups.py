"""Profiles of groups of positions: told, chosen, saved, merged and resumed with the whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from profile_files import assert_same_profiles, layer_of, profile_of
from tolerances import ROUNDING, assert_equal_states
from torch import Tensor, nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.integrations.intervals import Intervals
from fmstats.output.tables import join_blocks
from fmstats.profiles.profile import LayerProfile, Profile
from fmstats.profiles.summary import choose_group, describe_metadata, describe_run
from fmstats.runs.shards import join_parts

NAMES = ["cat", "dog"]


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


def batches(count: int = 4) -> list[dict[str, Tensor]]:
    """Of 10 samples, of which 3 are dogs."""
    torch.manual_seed(1)
    labels = torch.tensor([0, 0, 1, 0, 1, 0, 0, 1, 0, 0])
    return [{"x": torch.randn(10, 3), "labels": labels} for _ in range(count)]


def run(data: object = None, **options: object) -> Profile:
    data = batches() if data is None else data
    known = {"groups": "labels", "group_names": NAMES, "progress": False, **options}
    return fmstats.profile(Classifier(), data, **known)  # type: ignore[arg-type]


def assert_same_groups(a: Profile, b: Profile) -> None:
    assert list(a.groups) == list(b.groups) == NAMES
    for name in NAMES:
        for row in a:
            states = (profile.groups[name][row].state for profile in (a, b))
            assert_equal_states(*states, ROUNDING)


def test_a_group_has_its_share_of_the_samples() -> None:
    whole = run()
    assert whole.metadata["samples"] == 40
    noted = {name: part.metadata for name, part in whole.groups.items()}
    assert {name: known["samples"] for name, known in noted.items()} == {"cat": 28, "dog": 12}
    assert [known["group"] for known in noted.values()] == NAMES
    whole.metadata["samples"] = 100  # as users who track by themselves say it
    assert whole.groups["dog"].metadata["samples"] == 30
    del whole.metadata["samples"]
    assert "samples" not in whole.groups["dog"].metadata


def test_layers_of_whole_samples_tell_the_share() -> None:
    """Texts of a group may be longer: then it has a larger share of the tokens."""

    def rows(**counts: int) -> dict[str, LayerProfile]:
        return {name: layer_of(torch.randn(n, 2)) for name, n in counts.items()}

    whole = rows(token=500, pooled=50, head=50, expert=3, unused=0)
    groups = {"long": rows(token=400, pooled=10, head=10), "none": {}}
    profile = Profile(whole, {"samples": 50}, groups)
    assert profile.groups["long"].metadata["samples"] == 10
    assert profile.groups["none"].metadata["samples"] == 0
    tokens = Profile(rows(token=500, last=500), {"samples": 50}, {"a": rows(token=100, last=300)})
    assert tokens.groups["a"].metadata["samples"] == 20  # in the middle of what layers tell
    partly = Profile(rows(expert=10), {"samples": 50}, {"a": rows(expert=4)})
    assert partly.groups["a"].metadata["samples"] == 20
    assert Profile({}, {"samples": 50}, {"a": {}}).groups["a"].metadata["samples"] == 0


def test_the_right_group_is_chosen() -> None:
    whole = run()
    assert choose_group(whole, None) is whole
    assert choose_group(whole, "dog")["layer"].count[0] == 12
    with pytest.raises(FmstatsError, match=r"^group 'cow': the profile has cat, dog$"):
        choose_group(whole, "cow")
    with pytest.raises(FmstatsError, match=r"^group 'cow': 'a\.fmstats' has no groups; groups= "):
        choose_group(profile_of({}), "cow", of="'a.fmstats'")


def test_groups_are_named_with_their_elements() -> None:
    line = "\n2 groups: cat (112 elements), dog (48 elements)"
    whole = run()
    assert line in describe_metadata(whole)
    assert line in join_blocks(describe_run(whole))
    assert "group" not in describe_metadata(whole.groups["cat"])
    many = Profile({}, {}, {f"class {i}": {} for i in range(10)})
    assert describe_metadata(many).endswith("class 7 (0 elements) and 2 more")


def test_groups_are_saved_and_merged(tmp_path: Path) -> None:
    whole = run()
    whole.save(tmp_path / "whole.fmstats")
    assert_same_groups(fmstats.load(tmp_path / "whole.fmstats"), whole)
    halves = [run(batches()[:2]), run(batches()[2:])]
    both = halves[0] | halves[1]
    assert {name: int(part["layer"].count[0]) for name, part in both.groups.items()} == {
        **{"cat": 28, "dog": 12}
    }
    assert_same_groups(join_parts([whole]), whole)


def test_no_row_is_lost_to_a_group_of_the_same_name(tmp_path: Path) -> None:
    model = nn.Sequential()
    model.add_module("layer", nn.Linear(3, 3))
    model.add_module("layer|cat", nn.Linear(3, 3))
    groups = torch.zeros(2, dtype=torch.int64)
    with (
        fmstats.track(model, group_names=["cat"]) as tracker,
        tracker.positions(groups=groups),
    ):
        model(torch.ones(2, 3))
    with pytest.raises(FmstatsError, match="name of a row of a group"):
        tracker.stats().save(tmp_path / "run.fmstats")


def test_a_checkpoint_keeps_groups(tmp_path: Path) -> None:
    class Broken(list[dict[str, Tensor]]):
        """Batches that end in an interruption the first time."""

        broken = True

        def __iter__(self) -> Iterator[dict[str, Tensor]]:
            yield from self[:2]
            if Broken.broken:
                Broken.broken = False
                raise KeyboardInterrupt
            yield from self[2:]

    file = tmp_path / "run.fmstats"
    with pytest.raises(fmstats.RunInterrupted):
        run(Broken(batches()), checkpoint=file, resume="trust")
    assert fmstats.load(file).groups["dog"]["layer"].count[0] == 6
    resumed = run(Broken(batches()), checkpoint=file, resume="trust")
    assert resumed.metadata["resumed_batches"] == 2
    assert_same_groups(resumed, run())
    assert_same_groups(fmstats.load(file), run())


def test_intervals_of_training_keep_groups() -> None:
    model = Classifier()
    intervals = Intervals(model, groups="labels", group_names=NAMES)
    for step, batch in enumerate(batches(), start=1):
        intervals.begin()
        model(**batch)
        intervals.end()
        if step % 2 == 0:
            intervals.flush(step)
    intervals.close()
    assert intervals.last is not None
    assert intervals.last.groups["dog"]["layer"].count[0] == 6
    assert intervals.profile is not None
    assert intervals.profile.groups["dog"]["layer"].count[0] == 12


def test_what_is_known_of_rows_is_kept_with_other_metadata() -> None:
    whole = run()
    other = whole.with_metadata({"note": 1})
    assert_same_groups(other, whole)
    assert other.metadata == {"note": 1}
    assert_same_profiles(other.with_metadata(whole.metadata), whole)
