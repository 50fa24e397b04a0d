"""What is written for TensorBoard is what its own reader finds in the file."""

from __future__ import annotations

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
