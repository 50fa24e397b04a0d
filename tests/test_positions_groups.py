"""Each group of positions has the statistics of its samples alone, however profiles come about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from compat_models import captured, two_pass
from torch import Tensor, nn

import fmstats
from fmstats import Profile
from fmstats.errors import FmstatsError

pytest.importorskip("transformers", reason="needs transformers")

from position_models import ROUNDING, Inputs, draw_sentences, lay_sentences, make_bert
from tolerances import assert_near_states

CLASSES = ("cat", "dog", "bird")


class Classifier(nn.Module):
    """A small CNN that is given the classes of its images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()
        self.head = nn.Linear(6, len(CLASSES))

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        x = self.relu(self.norm(self.conv(images)))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


# One model, so that each profile is of the same.
torch.manual_seed(0)
MODEL = Classifier().eval().double()

# Of five batches one lacks all classes but one, and one has samples of none.
LABELS = ((0, 1, 2, 1), (0, 0, 0), (-1, 2, -1, 1), (2,), (1, 0, 2, 2))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(1)


def draw(labels: Sequence[Sequence[int]]) -> list[Inputs]:
    """A batch of images for each list of classes."""
    return [
        {"images": torch.randn(len(each), 3, 8, 8).double(), "label": torch.tensor(each)}
        for each in labels
    ]


def of_class(batches: Sequence[Inputs], label: int) -> Iterator[Inputs]:
    """The samples of a class, one by one."""
    for inputs in batches:
        images, labels = inputs["images"], inputs["label"]
        assert isinstance(images, Tensor)
        yield from ({"images": image[None]} for image in images[labels == label])


def run(batches: Sequence[Inputs]) -> None:
    with torch.no_grad():
        for inputs in batches:
            MODEL(**inputs)


def track(batches: Sequence[Inputs], groups: str | None = None) -> Profile:
    with fmstats.track(MODEL, groups=groups, group_names=CLASSES) as tracker:
        run(batches)
        return tracker.stats()


def assert_near(got: Profile, want: Profile) -> None:
    """Counts are equal, and all else up to the order of sums."""
    assert [*got] == [*want]
    for name, stats in want.items():
        assert_near_states(got[name].state, stats.state, ROUNDING, name)


def assert_same_groups(got: Profile, want: Profile) -> None:
    """All groups have the same bits."""
    assert [*got.groups] == [*want.groups]
    for group, profile in want.groups.items():
        assert [*got.groups[group]] == [*profile]
        for name, stats in profile.items():
            words = got.groups[group][name].state.words
            assert torch.equal(words, stats.state.words), (group, name)


def assert_groups_alone(groups: Mapping[str, Profile], runs: Sequence[Inputs]) -> None:
    """Each class has the statistics of its samples alone."""
    assert [*groups] == [*CLASSES]
    for number, group in enumerate(groups.values()):
        assert_near(group, track([*of_class(runs, number)]))


def test_classes_of_a_cnn() -> None:
    runs = draw(LABELS)
    assert_groups_alone(track(runs, groups="label").groups, runs)


def test_groups_together_are_all_that_count() -> None:
    """Samples of the group -1 are left out of them, and of the whole."""
    runs = draw(LABELS)
    profile = track(runs, groups="label")
    alone = [inputs for number in range(3) for inputs in of_class(runs, number)]
    assert_near(profile, track(alone))
    first, *others = profile.groups.values()
    for name, stats in profile.items():
        merged = first[name]
        for other in others:
            merged = merged.merge(other[name])
        assert_near_states(merged.state, stats.state, ROUNDING, name)


def test_a_pass_of_no_group_counts_nothing() -> None:
    profile = track(draw([(-1, -1)]), groups="label")
    assert profile.groups == {}
    assert not any(stats.count.any() for stats in profile.values())


def test_domains_of_sentences() -> None:
    model, sentences = make_bert("sdpa"), draw_sentences()
    domains = torch.tensor([0, 1, 2, 0, 2, 1])
    with fmstats.track(model, mask="auto", groups=lambda args, kwargs: domains) as tracker:
        for width in (16, 21):
            model(**lay_sentences(sentences, width))
        groups = tracker.stats(by="group")
    assert [*groups] == ["0", "1", "2"]
    for number, group in enumerate(groups.values()):
        with fmstats.track(model) as tracker:
            for sentence, domain in [*zip(sentences, domains, strict=True)] * 2:
                if domain == number:
                    model(sentence[None])
            alone = tracker.stats()
        for name, stats in group.items():
            assert_near_states(stats.state, alone[name].state, ROUNDING, name)


def test_domains_of_tokens() -> None:
    """Attention mixes domains, so a group has the tokens of one in a pass of all."""
    model, inputs = make_bert("sdpa"), lay_sentences(draw_sentences(), 18)
    domains = torch.randint(-1, 3, (6, 18))
    with fmstats.track(model, mask="auto", groups=lambda args, kwargs: domains) as tracker:
        seen, _ = captured(model, lambda: model(**inputs))
        groups = tracker.stats(by="group")
    assert [*groups] == ["0", "1", "2"]
    for number, group in enumerate(groups.values()):
        counts = (inputs["attention_mask"] == 1) & (domains == number)
        of_tokens = [name for name in group if name in seen and seen[name][0].dim() == 3]
        assert len(of_tokens) == 25
        for name in of_tokens:
            want = two_pass([seen[name][0][counts]], 1)
            assert_near_states(group[name].state, want, ROUNDING, name)


def test_groups_are_saved(tmp_path: Path) -> None:
    profile = track(draw(LABELS), groups="label")
    profile.save(tmp_path / "whole.fmstats")
    assert_same_groups(fmstats.load(tmp_path / "whole.fmstats"), profile)


def test_profiles_of_different_groups_are_merged(tmp_path: Path) -> None:
    """As those of two processes, of which one saw no bird."""
    runs = draw(((0, 1), (1, 1, -1), (2, 0), (2, 2)))
    for number, part in enumerate((runs[:2], runs[2:])):
        track(part, groups="label").save(tmp_path / f"{number}.fmstats")
    first, second = (fmstats.load(tmp_path / f"{number}.fmstats") for number in range(2))
    assert [[*first.groups], [*second.groups]] == [["cat", "dog"], ["cat", "bird"]]
    for merged in (first | second, second | first):
        assert_groups_alone({name: merged.groups[name] for name in CLASSES}, runs)
        assert len(merged.groups) == 3


def test_a_tracker_goes_on_from_groups() -> None:
    runs = draw(LABELS)
    before = track(runs[:3], groups="label")
    with fmstats.track(MODEL, groups="label", group_names=CLASSES) as tracker:
        tracker.restore(before)
        run(runs[3:])
        assert_groups_alone(tracker.stats(by="group"), runs)


class Stopped(list):  # type: ignore[type-arg]
    """Batches of which the third is never read."""

    def __iter__(self) -> Iterator[Inputs]:
        yield from self[:2]
        raise KeyboardInterrupt


Stopped.__name__ = "list"  # as what goes on from it


def test_a_run_goes_on_from_groups(tmp_path: Path) -> None:
    runs, path = draw(LABELS), tmp_path / "run.fmstats"
    known = {"groups": "label", "group_names": CLASSES, "batch_dim": 0, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        fmstats.profile(MODEL, Stopped(runs), checkpoint=path, **known)
    resumed = fmstats.profile(MODEL, runs, checkpoint=path, **known)
    assert resumed.metadata["resumed"] == len(LABELS[0]) + len(LABELS[1])
    assert_near(resumed, track(runs, groups="label"))
    assert_groups_alone(resumed.groups, runs)


@pytest.mark.parametrize("mismatch", ["raise", "skip"])
def test_a_group_beyond_all_is_named_and_nothing_is_lost(mismatch: str) -> None:
    runs, beyond = draw(LABELS), draw([(0, 3)])
    asked = {"groups": "label", "group_names": CLASSES, "max_groups": 3}
    with fmstats.track(MODEL, mask_mismatch=mismatch, **asked) as tracker:
        run(runs)
        before = tracker.stats()
        text = "group 3 is beyond max_groups=3"
        with (
            pytest.raises(FmstatsError, match=text)
            if mismatch == "raise"
            else pytest.warns(RuntimeWarning, match=text)
        ):
            run(beyond)
        assert_same_groups(tracker.stats(), before)
        run(runs)
        assert_groups_alone(tracker.stats(by="group"), runs * 2)
