"""What cannot be read or run is fatal, or is skipped, counted and noted; never half counted."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.sources import open_data
from fmstats.sources.stored import MOST_ENTRIES, Skipped


class Net(nn.Module):
    """Refuses, after its first layer, a batch that has a large number in it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.again, self.last = nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x):
        y = self.again(self.again(self.first(x)))
        if x.max() > 99:
            raise RuntimeError("too large")
        return self.last(y)


def profile(model, data, **options):
    """A run over rows, each of which is a sample."""
    return fmstats.profile(model, data, batch_dim=0, **options)


def batches(bad=()):
    made = list(torch.randn(28, 6, generator=torch.Generator().manual_seed(1)).split(4))
    for number in bad:
        made[number][1, 2] = 100
    return made


def good(bad):
    return [batch for number, batch in enumerate(batches()) if number not in bad]


def assert_same(got, want):
    assert list(got) == list(want)
    for name in want:
        assert torch.equal(got[name].state.words, want[name].state.words)
        assert got.info[name].calls == want.info[name].calls


@pytest.mark.parametrize("per_call", [False, True])
@pytest.mark.parametrize("bad", [(0,), (2, 3), (6,), (0, 1, 2, 3, 4, 5)])
def test_a_batch_that_the_model_refuses_half_way_leaves_no_trace(bad, per_call):
    got = profile(Net(), batches(bad), on_bad_sample="skip", per_call=per_call)
    assert_same(got, profile(Net(), good(bad), per_call=per_call))
    metadata = got.metadata
    assert (metadata["samples"], metadata["batches"]) == (4 * (7 - len(bad)), 7 - len(bad))
    assert metadata["passes"] == metadata["passes_measured"] == 7 - len(bad)
    assert metadata["skipped_count"] == len(bad)
    assert metadata["skipped"][0].startswith(
        f"the model refused batch {bad[0] + 1}, (4, 6) float32: RuntimeError: too large (test_bad_"
    )


@pytest.mark.parametrize("bad", [(2,), (2, 3)])
def test_a_resumed_run_that_begins_with_a_bad_batch_loses_nothing(tmp_path, bad):
    path = tmp_path / "run.fmstats"
    data = [*batches()[:2], *batches(bad)[2:]]
    with pytest.raises(FmstatsError, match=f"batch {bad[0] + 1}, "):
        profile(Net(), data, checkpoint=path)
    got = profile(Net(), data, checkpoint=path, on_bad_sample="skip")
    assert got.metadata["resumed"] == 8
    assert_same(got, profile(Net(), good(bad)))


@pytest.mark.parametrize("first", [True, False])
def test_a_refused_batch_changes_no_metadata_of_a_layer(first):
    """The refused batch has other shapes than the batches that count."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    good, bad = [torch.randn(16, 3, 8, 8) for _ in range(2)], torch.randn(1, 3, 20, 20)
    got = profile(model, [bad, *good] if first else [*good, bad], on_bad_sample="skip")
    want = profile(model, good)
    assert_same(got, want)
    for name in want:
        mine, theirs = ({**vars(p.info[name]), "stats": None} for p in (got, want))
        assert mine == theirs
    assert [str(f) for f in got.diagnose().findings] == [str(f) for f in want.diagnose().findings]


def test_fatal_by_default():
    with pytest.raises(FmstatsError, match=r"batch 3, .*too large.* \(2 batches were measured"):
        profile(Net(), batches((2,)))


def test_nothing_left():
    with pytest.raises(
        FmstatsError, match=r"^every batch was left out, the first one because: the model refused b"
    ):
        profile(Net(), batches(range(7)), on_bad_sample="skip")


def test_a_batch_that_a_layer_cannot_count():
    data = [torch.ones(2, 1, 3), torch.ones(2, 3), torch.ones(2, 1, 3)]
    options = {"channel_dim": 2, "on_error": "raise"}
    got = profile(nn.Sequential(nn.ReLU()), data, on_bad_sample="skip", **options)
    assert got["0"].count.tolist() == [4, 4, 4]
    assert got.metadata["skipped"][0].startswith("batch 2: layer '0' (ReLU): ")


def test_what_is_no_batch():
    got = profile(Net(), [batches()[0], "text", batches()[1]], on_bad_sample="skip")
    assert got.metadata["samples"] == 8
    assert got.metadata["skipped"][0].startswith("batch 2 is of type str: ")


class Flaky(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, place):
        if place in (5, 11):
            raise OSError(f"sample {place} is gone")
        return torch.full((6,), float(place))


def test_a_loader_goes_on_after_an_error():
    loader = torch.utils.data.DataLoader(Flaky(), batch_size=2)
    got = profile(Net(), loader, on_bad_sample="skip")
    assert (got.metadata["samples"], got.metadata["batches"]) == (8, 4)
    assert [e.split(" (")[0] for e in got.metadata["skipped"]] == [
        "reading batch 3 raised OSError: sample 5 is gone",
        "reading batch 6 raised OSError: sample 11 is gone",
    ]


def test_a_generator_cannot_go_on_and_says_so():
    def give():
        yield batches()[0]
        raise OSError("disk is gone")

    with pytest.raises(
        FmstatsError, match=r"the data ended at batch 2 because reading it raised .* are lost"
    ):
        profile(Net(), give(), on_bad_sample="skip")


class Broken:
    def __iter__(self):
        return self

    def __next__(self):
        raise OSError("disk is gone")


def test_what_only_raises_comes_to_an_end():
    with pytest.raises(
        FmstatsError, match=r"the data ended at batch 100 because reading it raised"
    ):
        profile(Net(), Broken(), on_bad_sample="skip")


@pytest.fixture
def folder(tmp_path):
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 9, 3), dtype=np.uint8)
    for number, picture in enumerate(pixels):
        pillow.fromarray(picture).save(tmp_path / f"{number}.png")
    for number in (1, 2, 3):
        (tmp_path / f"{number}.png").write_bytes(b"broken")
    return tmp_path


def test_images(folder):
    data = open_data(folder, batch_size=2, image_size=8, on_bad_sample="skip")
    model = nn.Conv2d(3, 2, 3)
    got = profile(model, data, on_bad_sample="skip").metadata
    assert (got["samples"], got["batches"], got["skipped_count"]) == (4, 3, 3)
    assert [entry.split("'")[1] for entry in got["skipped"]] == [
        str(folder / f"{n}.png") for n in (1, 2, 3)
    ]
    assert all("cannot be read: UnidentifiedImageError" in entry for entry in got["skipped"])


def test_a_source_that_is_strict_loses_the_batch(folder):
    got = profile(
        nn.Conv2d(3, 2, 3), open_data(folder, batch_size=2, image_size=8), on_bad_sample="skip"
    ).metadata
    assert (got["samples"], got["skipped_count"]) == (3, 2)
    # A folder by its name follows the run.
    assert profile(nn.Conv2d(3, 2, 3), folder, on_bad_sample="skip").metadata["samples"] == 4


def test_entries_are_bounded_and_the_count_is_not():
    skipped = Skipped()
    for number in range(3 * MOST_ENTRIES):
        skipped.add(str(number))
    assert skipped.count == 3 * MOST_ENTRIES
    assert skipped.entries == [str(number) for number in range(MOST_ENTRIES)]
    both = Skipped()
    both.extend(skipped)
    both.extend(skipped)
    assert (both.count, both.entries) == (6 * MOST_ENTRIES, skipped.entries)


def test_wrong_choice():
    with pytest.raises(FmstatsError, match="on_bad_sample 'ignore' is neither 'raise' nor 'skip'"):
        profile(Net(), batches(), on_bad_sample="ignore")


@pytest.mark.parametrize("every", [2, 3, 4])
@pytest.mark.parametrize("bad", [(1,), (0, 4), (2, 3, 5)])
def test_passes_are_counted_once_wherever_a_run_is_cut(tmp_path, bad, every):
    passes = threading.local()  # of the process, and so no part of what the model is

    class Cut(Net):
        """Is told to stop at a pass."""

        def forward(self, x):
            passes.left -= 1
            if passes.left == 0:
                raise KeyboardInterrupt
            return super().forward(x)

    def run(cut, **more):
        passes.left = cut
        return profile(Cut(), batches(bad), every=every, on_bad_sample="skip", **more)

    want = run(99)
    assert want.metadata["passes"] == 7 - len(bad)
    assert want.metadata["passes_measured"] == -(-(7 - len(bad)) // every)
    assert_same(want, profile(Net(), good(bad), every=every))  # a bad batch leaves no trace
    for cut in range(1, 8):
        path = tmp_path / f"{cut}.fmstats"
        with pytest.raises(KeyboardInterrupt):
            run(cut, checkpoint=path)
        got = run(99, checkpoint=path)
        assert_same(got, want)
        for key in ("passes", "passes_measured", "samples", "batches"):
            assert got.metadata[key] == want.metadata[key], (cut, key)
