"""What is derived of measures on request, compared with numpy and scipy on the same elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.output.tables import format_count
from fmstats.statistic.bins import SCOPES, Bins
from fmstats.statistic.measures import Measures
from fmstats.statistic.state import State

EVERY = ("abs", "kurtosis", "histogram")
DATA = {
    "normal": lambda: torch.randn(4000, 3),
    "after ReLU": lambda: torch.randn(4000, 3).relu(),
    "two values": lambda: torch.where(torch.rand(4000, 3) < 0.3, -2.5, 7.0),
    "heavy tails": lambda: torch.randn(4000, 3) ** 5,
    "far out": lambda: torch.randn(4000, 3) * 1e5,
    "negative": lambda: -torch.rand(4000, 3) - 0.01,
    "one element": lambda: torch.tensor([[3.0, -4.0, 0.0]]),
}


def stats_of(x: Tensor, **options: Any) -> fmstats.ChannelStats:
    return fmstats.channel_stats(x, measure=EVERY, **options)


@pytest.mark.parametrize("kind", DATA)
def test_moments_are_those_of_scipy(kind: str) -> None:
    x = DATA[kind]()
    stats, exact = stats_of(x), x.double().numpy()
    np.testing.assert_allclose(stats.mean_abs, np.abs(exact).mean(0), rtol=1e-12)
    if len(x) > 1:
        np.testing.assert_allclose(
            stats.kurtosis, scipy.stats.kurtosis(exact, fisher=False), rtol=3e-6
        )
        np.testing.assert_allclose(stats.skewness, scipy.stats.skew(exact), atol=3e-6, rtol=3e-6)
    else:
        assert np.isnan(stats.kurtosis).all()
        assert np.isnan(stats.skewness).all()


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("resolution", [0, 2, 4, 6])
def test_quantiles_are_within_the_bound(kind: str, resolution: int) -> None:
    """Between the neighbours that numpy interpolates, or in a bin of one of them."""
    x = DATA[kind]()
    stats = stats_of(x, histogram="channel", resolution=resolution)
    exact, error = x.double().numpy(), 2.0**-resolution
    most = np.abs(exact).max(0)
    for q in (0.0, 0.001, 0.1, 0.5, 0.75, 0.99, 0.9999, 1.0):
        below, above = (np.quantile(exact, q, 0, method=m) for m in ("lower", "higher"))
        # The outer bins reach from 65504 to the largest element, and from 2^-24 to 0.
        room_below, room_above = (
            np.where(abs(at) >= Bins.LARGEST, most - Bins.LARGEST, error * abs(at) + Bins.SMALLEST)
            for at in (below, above)
        )
        found = stats.quantile(q)
        assert (found >= below - room_below).all(), q
        assert (found <= above + room_above).all(), q


@pytest.mark.parametrize("kind", DATA)
def test_the_ends_are_the_range(kind: str) -> None:
    stats = stats_of(DATA[kind](), histogram="channel", resolution=6)
    assert (stats.quantile(0) >= stats.min).all()
    assert (stats.quantile(1) <= stats.max).all()


@pytest.mark.parametrize("kind", DATA)
def test_shares_at_edges_are_counts(kind: str) -> None:
    x = DATA[kind]()
    stats = stats_of(x, histogram="channel", resolution=2)
    for edge in (2.0**-24, 2.0**-14, 2.0**-6, 1.0, 1.75, 448.0, 57344.0, 65504.0):
        for bound in (edge, -edge):
            share = stats.share_above(bound)
            if bound > 0:  # bins of negative numbers hold their edge that is farther from 0
                np.testing.assert_array_equal(share, (x >= bound).double().mean(0))
        beyond = stats.share_above(edge, magnitude=True)
        np.testing.assert_allclose(beyond, (x.abs() >= edge).double().mean(0), atol=1e-15)


def test_a_histogram_is_that_of_numpy_where_its_edges_are_edges_of_bins() -> None:
    x = torch.cat([torch.tensor([[-4.0], [4.0]]), torch.randn(5000, 1).clamp(-4, 4)])
    counts, edges = stats_of(x, resolution=4).histogram(8)
    want, want_edges = np.histogram(x.numpy(), 8)
    np.testing.assert_array_equal(edges, want_edges)
    assert counts.sum() == pytest.approx(len(x))
    # An element at -1 is in the bin from -1 down here, and from -1 up there.
    np.testing.assert_allclose(counts, want, atol=2)
    flat, around = stats_of(torch.full((5, 1), 3.0)).histogram(2)
    assert flat.sum() == 5
    np.testing.assert_array_equal(around, [2.5, 3.0, 3.5])
    empty, _ = stats_of(torch.full((5, 1), float("nan"))).histogram(2)
    assert empty.size == 0


def test_the_histogram_of_a_layer_is_the_sum_of_those_of_channels() -> None:
    x = torch.randn(500, 6) * torch.arange(6)
    layer, channels = stats_of(x), stats_of(x, histogram="channel")
    pooled = channels.pooled()
    assert torch.equal(layer.state.bins, pooled.state.bins)
    assert layer.quantile(0.3).shape == (1,)
    assert channels.quantile(0.3).shape == (6,)
    np.testing.assert_array_equal(layer.quantile(0.3), pooled.quantile(0.3))
    np.testing.assert_array_equal(layer.median, layer.quantile(0.5))
    np.testing.assert_allclose(layer.iqr, layer.quantile(0.75) - layer.quantile(0.25))


def test_nothing_finite_is_nan() -> None:
    stats = stats_of(torch.full((3, 2), float("inf")))
    for name in ("mean_abs", "kurtosis", "skewness", "median", "iqr"):
        assert np.isnan(getattr(stats, name)).all(), name
    assert np.isnan(stats.share_above(1.0)).all()
    assert np.isnan(fmstats.channel_stats(torch.empty(0, 2), measure="abs").mean_abs).all()


def test_what_was_not_measured_says_what_to_ask_for() -> None:
    stats = fmstats.channel_stats(torch.randn(5, 2), measure="abs")
    for name, measure in (("kurtosis", "kurtosis"), ("median", "histogram"), ("iqr", "histogram")):
        with pytest.raises(FmstatsError, match=f"measure='{measure}'.*: abs"):
            getattr(stats, name)
    with pytest.raises(FmstatsError, match=r"needs track.*measure='abs'.*: none"):
        _ = fmstats.channel_stats(torch.randn(5, 2)).mean_abs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "median"}, "choose among 'abs', 'kurtosis', 'histogram'"),
        ({"measure": ["abs", 3]}, "choose among"),
        ({"measure": 3}, "choose among"),
        ({"measure": "histogram", "histogram": "pixel"}, "choose 'layer' or 'channel'"),
        ({"measure": "histogram", "resolution": 7}, "give 0 to 6 bits"),
        ({"measure": "histogram", "resolution": True}, "give 0 to 6 bits"),
    ],
)
def test_bad_requests(options: dict[str, Any], message: str) -> None:
    for ask in (
        lambda: fmstats.track(nn.ReLU(), **options),
        lambda: fmstats.channel_stats(torch.randn(3, 2), **options),
    ):
        with pytest.raises(FmstatsError, match=message):
            ask()


def test_bad_questions() -> None:
    stats = stats_of(torch.randn(5, 2))
    with pytest.raises(FmstatsError, match="give a share from 0 to 1"):
        stats.quantile(1.5)
    with pytest.raises(FmstatsError, match="give 1 or more"):
        stats.histogram(0)


def test_gradients_with_a_scale_have_no_histogram() -> None:
    with pytest.raises(FmstatsError, match="leave out grad_scale"):
        fmstats.track(nn.ReLU(), of="grad_output", grad_scale=8.0, measure="histogram")


def test_gradients_with_a_scale_have_sums() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    kept = {}
    for scale in (1.0, 1024.0):
        with fmstats.track(
            model, of="grad_output", grad_scale=scale, measure=("abs", "kurtosis")
        ) as tracker:
            torch.manual_seed(0)
            (model(torch.randn(64, 4)).square().sum() * scale).backward()
        kept[scale] = tracker.stats()["0"]
    for name in ("mean_abs", "kurtosis", "skewness"):
        np.testing.assert_allclose(*(getattr(s, name) for s in kept.values()), rtol=1e-5)


@given(st.integers(0, 6), st.sampled_from(SCOPES))
def test_bins_are_in_order_and_their_edges_are_their_first_numbers(
    resolution: int, scope: str
) -> None:
    bins = Bins(scope, resolution)
    edges = torch.from_numpy(bins.edges())
    assert (edges.diff() > 0).all()
    assert edges[0] == Bins.SMALLEST
    assert edges[-1] == Bins.LARGEST
    places = bins.of(edges)
    assert places.tolist() == list(range(1, bins.of_sign))
    assert bins.of(torch.nextafter(edges, torch.zeros((), dtype=torch.float64))).tolist() == list(
        range(bins.of_sign - 1)
    )
    assert torch.equal(bins.of(-edges), places + bins.of_sign)


def test_states_of_different_measures_do_not_merge() -> None:
    a, b = (State.identity(2, measures=Measures.of(m)) for m in ("abs", "kurtosis"))
    with pytest.raises(FmstatsError, match="measures abs with one of kurtosis"):
        a.merge_(b)
    with pytest.raises(FmstatsError, match="different measures: abs and kurtosis"):
        State.beside([a, b])
    with pytest.raises(FmstatsError, match="a histogram cannot be scaled"):
        State.identity(2, measures=Measures.of("histogram")).scale_(1.0, 2.0)


def test_bytes_are_told() -> None:
    assert Bins("layer", 4).bytes == 10272
    assert format_count(26560 * 10272, "B") == "273 MB"


@pytest.mark.parametrize("compiled", [False, True])
def test_a_tracker_measures_what_it_is_asked_for(compiled: bool, fresh_graphs: None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU()).eval()
    x = torch.randn(4, 3, 9, 9)
    with torch.no_grad(), fmstats.track(model, measure=EVERY, histogram="channel") as tracker:
        run = torch.compile(model, backend="aot_eager") if compiled else model
        for _ in range(3):
            run(x)
        want = model[1](model[0](x)) if compiled else None
    profile = tracker.stats()
    assert want is None or want.shape[1] == 5
    relu = profile["1"]
    with torch.no_grad():
        once = stats_of(model(x), histogram="channel")
    np.testing.assert_allclose(relu.kurtosis, once.kurtosis, rtol=1e-6)
    np.testing.assert_array_equal(relu.distribution.counts % once.distribution.counts.clip(1), 0)
    derived = ("mean_abs", "skewness", "kurtosis", "p1", "p50", "p99")
    assert relu.columns[-6:] == derived
    assert set(profile.to_pandas().columns) >= {"sum_abs", "m3", "m4", "mean_abs", "kurtosis"}
    assert profile.to_dict()["layers"]["1"]["mean_abs"] == relu.mean_abs.tolist()


def test_groups_and_calls_have_histograms_of_their_own() -> None:
    model = nn.Sequential(relu := nn.ReLU(), nn.Linear(4, 4), relu)
    x, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    with fmstats.track(model, measure="histogram", per_call=True) as tracker:
        with tracker.positions(groups=labels):
            model(x)
        model(x)
    profile = tracker.stats()
    assert profile["0#0"].distribution.total == 2 * 24
    groups = tracker.stats(by="group")
    assert [groups[str(k)]["0#0"].distribution.total.item() for k in range(3)] == [8, 8, 8]
    first = fmstats.channel_stats(x[labels == 0].relu(), measure="histogram")
    assert torch.equal(groups["0"]["0#0"].state.bins, first.state.bins)


def test_restoring_and_resetting() -> None:
    model, x = nn.Sequential(nn.ReLU()), torch.randn(8, 3)
    with fmstats.track(model, measure=EVERY) as one, fmstats.track(model, measure=EVERY) as two:
        model(x)
        two.reset()
        two.restore(one.stats())
        model(x)
    assert torch.equal(one.stats()["0"].state.bins, two.stats()["0"].state.bins)
    assert torch.equal(one.stats()["0"].state.words, two.stats()["0"].state.words)
    with (
        pytest.raises(FmstatsError, match=r"it measures abs, kurtosis, a histogram.*this tracker"),
        fmstats.track(model) as other,
    ):
        other.restore(one.stats())
