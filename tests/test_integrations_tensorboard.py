"""What is written for TensorBoard is what its own reader finds in the file."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import fmstats
from fmstats.integrations.tensorboard import write

pytest.importorskip("tensorboard")


@pytest.fixture
def profile():
    model = nn.Sequential(nn.Conv2d(1, 40, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(1440, 3))
    with fmstats.track(model, include=["0", "1", "3"]) as tracker:
        model(3 * torch.randn(4, 1, 8, 8))
    return tracker.stats()


@pytest.fixture
def written(tmp_path):
    """Writes profiles at steps, and reads the file back."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    def write_all(profiles, **options):
        with SummaryWriter(tmp_path) as writer:
            for step, profile in profiles.items():
                write(writer, profile, step, **options)
        events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0})
        events.Reload()
        return events

    return write_all


def test_scalars(profile, written):
    events = written({10: profile, 20: profile | profile}, stats=("mean", "nan", "count"))
    tags = set(events.Tags()["scalars"])
    assert tags == {f"fmstats/{i}.{stat}" for i in (0, 1, 3) for stat in ("mean", "nan", "count")}
    count = int(profile["1"].count.sum())
    seen = [(event.step, event.value) for event in events.Scalars("fmstats/1.count")]
    assert seen == [(10, count), (20, 2 * count)]
    (row,) = (row for row in profile.layers() if row["layer"] == "3")
    assert events.Scalars("fmstats/3.mean")[0].value == pytest.approx(row["mean"], rel=1e-6)


@pytest.mark.parametrize("stat", ["mean", "std", "sparsity", "saturated"])
def test_histograms_are_of_the_channels(profile, written, stat):
    events = written({5: profile}, channels=[stat], prefix="run/")
    bounded = ["1"] if stat == "saturated" else ["0", "1", "3"]
    assert set(events.Tags()["histograms"]) == {f"run/channels/{i}.{stat}" for i in bounded}
    for layer in bounded:
        (event,) = events.Histograms(f"run/channels/{layer}.{stat}")
        values, found = getattr(profile[layer], stat), event.histogram_value
        assert event.step == 5
        assert (found.num, found.min, found.max) == (len(values), values.min(), values.max())
        assert found.sum == pytest.approx(values.sum(), abs=1e-12)
        assert found.sum_squares == pytest.approx(np.square(values).sum(), abs=1e-12)
        assert sum(found.bucket) == len(values)
        # So many are at or below each limit.
        for limit, below in zip(found.bucket_limit, np.cumsum(found.bucket), strict=True):
            assert (values < limit).sum() <= below <= (values <= limit).sum() + 1e-9


def test_one_statistic_is_a_list_of_one(profile, written):
    events = written({5: profile}, stats="mean", channels="mean")
    tags = events.Tags()
    assert set(tags["scalars"]) == {f"fmstats/{i}.mean" for i in (0, 1, 3)}
    assert set(tags["histograms"]) == {f"fmstats/channels/{i}.mean" for i in (0, 1, 3)}


def with_means(*means):
    """A layer whose channels have these means."""
    data = torch.tensor(means, dtype=torch.float64).expand(2, -1)
    model = nn.Identity()
    with fmstats.track(model) as tracker:
        model(data)
    return tracker.stats()


@pytest.mark.parametrize(
    "means",
    [
        (0.0, 0.0),
        (1.0, 1.0 + 2**-52),
        (-1e30, 1e30),
        (1e-320, 2e-320),
        (1.0, float("nan")),
        (7.0,),
    ],
)
def test_values_that_are_alike_or_extreme(written, means):
    events = written({0: with_means(*means)}, channels=["mean"])
    finite = [mean for mean in means if mean == mean]
    found = events.Histograms("fmstats/channels/(model).mean")[0].histogram_value
    assert sum(found.bucket) == found.num == len(finite)
    assert (found.min, found.max) == (min(finite), max(finite))
    assert (np.diff(found.bucket_limit) > 0).all()


def test_nothing_finite_has_no_histogram(written):
    events = written({0: with_means(float("nan"), float("inf"))})
    assert events.Tags()["histograms"] == ["fmstats/channels/(model).sparsity"]
    assert events.Scalars("fmstats/(model).nan")[0].value == 2


def test_an_unknown_statistic_writes_nothing(profile, written):
    with pytest.raises(fmstats.FmstatsError, match="over channels of 'median': choose mean, std"):
        written({0: profile}, channels=["median"])
    with pytest.raises(fmstats.FmstatsError, match="unknown statistic 'average'"):
        written({0: profile}, stats=["average"])


@pytest.mark.parametrize("scope", ["layer", "channel"])
def test_histograms_of_elements(written, scope):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    with fmstats.track(model, measure="histogram", histogram=scope, backend="torch") as tracker:
        model(x := torch.randn(100, 7))
    events = written({3: tracker.stats()}, channels=())
    assert set(events.Tags()["histograms"]) == {"fmstats/elements/0", "fmstats/elements/1"}
    for layer, elements in (("0", x), ("1", x.relu())):
        (event,) = events.Histograms(f"fmstats/elements/{layer}")
        found, values = event.histogram_value, elements.double()
        assert (found.min, found.max) == (values.min(), values.max())
        assert found.num == sum(found.bucket) == 700
        assert found.sum == pytest.approx(values.sum().item())
        assert found.sum_squares == pytest.approx(values.square().sum().item())
        assert (np.diff(found.bucket_limit) > 0).all()
        edges = [-np.inf, *found.bucket_limit]
        want = [((values > a) & (values <= b)).sum().item() for a, b in pairwise(edges)]
        assert np.cumsum(found.bucket).tolist() == pytest.approx(np.cumsum(want).tolist(), abs=2)


def test_histograms_of_elements_may_be_left_out(written):
    model = nn.Identity()
    with fmstats.track(model, measure="histogram", backend="torch") as tracker:
        model(torch.randn(2, 3))
    events = written({1: tracker.stats()}, channels=(), histograms=False)
    assert events.Tags()["histograms"] == []


@pytest.mark.parametrize("value", [0.0, 3.0, -1e-30, 1e30])
def test_elements_that_are_alike(written, value):
    model = nn.Identity()
    with fmstats.track(model, measure="histogram", backend="torch") as tracker:
        model(torch.full((2, 3), value))
    events = written({1: tracker.stats()}, channels=())
    found = events.Histograms("fmstats/elements/(model)")[0].histogram_value
    assert list(found.bucket) == [0, 6]
    assert found.bucket_limit[0] < found.bucket_limit[1]


def test_nothing_finite_has_no_histogram_of_elements(written):
    model = nn.Identity()
    with fmstats.track(model, measure="histogram", backend="torch") as tracker:
        model(torch.full((2, 3), torch.nan))
    assert written({1: tracker.stats()}, channels=()).Tags()["histograms"] == []


def test_elements_too_small_for_the_bins_are_with_the_zeros(written):
    model = nn.Identity()
    with fmstats.track(model, measure="histogram", backend="torch") as tracker:
        model(torch.tensor([[1e-9, -1e-9, 0.0, 0.0, 1.0, -2.0]]))
    events = written({1: tracker.stats()}, channels=())
    found = events.Histograms("fmstats/elements/(model)")[0].histogram_value
    limits = dict(zip(found.bucket_limit, found.bucket, strict=True))
    assert limits[2.0**-24] == 4
    assert sorted(limits) == list(found.bucket_limit)
    assert sum(limits.values()) == 6
