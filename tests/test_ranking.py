"""Channels of all layers in one order."""

from __future__ import annotations

import math

import pytest
import torch
from diagnosis_profiles import layer_of, profile_of

from fmstats import FmstatsError, Profile
from fmstats.profiles.profile import LayerProfile


def relu(*shares: float, type: str = "ReLU") -> LayerProfile:
    """A layer of which each channel has this share of zeros among ten elements."""
    x = torch.ones(10, len(shares))
    for channel, share in enumerate(shares):
        x[: round(10 * share), channel] = 0
    return layer_of(x, type=type)


@pytest.fixture
def profile() -> Profile:
    return profile_of(relu(0.1, 0.9, 0.5), relu(0.9, 0.2, type="ReLU6"), relu(0.7, type="Linear"))


def places(rows: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(row["layer"], row["channel"]) for row in rows]


def test_largest_first_and_equal_ones_in_the_order_of_execution(profile: Profile) -> None:
    rows = profile.rank("sparsity")
    assert places(rows) == [("a", 1), ("b", 0), ("c", 0), ("a", 2), ("b", 1), ("a", 0)]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[1] == {
        **{"rank": 2, "layer": "b", "type": "ReLU6", "channel": 0, "sparsity": 0.9},
        **{"mean": pytest.approx(0.1), "std": pytest.approx(math.sqrt(0.1)), "max": 1.0},
    }
    upwards = [("a", 0), ("b", 1), ("a", 2), ("c", 0), ("a", 1), ("b", 0)]
    assert places(profile.rank("sparsity", ascending=True)) == upwards


def test_so_many_or_such_a_share(profile: Profile) -> None:
    assert places(profile.rank("sparsity", 2)) == [("a", 1), ("b", 0)]
    assert places(profile.rank("sparsity", top=0)) == []
    assert len(profile.rank("sparsity", share=0.1)) == 1  # 0.6 of a channel
    assert len(profile.rank("sparsity", share=0.5)) == 3
    assert len(profile.rank("sparsity", top=100)) == 6


def test_of_some_layers(profile: Profile) -> None:
    assert places(profile.rank("sparsity", layers=["b", "c"])) == [("b", 0), ("c", 0), ("b", 1)]
    assert places(profile.rank("sparsity", 1, types="ReLU*")) == [("a", 1)]
    assert places(profile.rank("sparsity", types=("ReLU6", "Linear"), top=2)) == [
        ("b", 0),
        ("c", 0),
    ]


def test_unknown_numbers_come_last() -> None:
    broken = torch.ones(10, 2)
    broken[:, 0] = math.nan
    profile = profile_of(layer_of(broken), relu(0.5))
    for ascending in (False, True):
        assert places(profile.rank("std", ascending=ascending))[-1] == ("a", 0)
    bounded = profile_of(relu(0.5), layer_of(torch.full((10, 1), 6.0), low=0.0, high=6.0))
    assert places(bounded.rank("saturated")) == [("b", 0), ("a", 0)]
    assert bounded.rank("saturated")[1]["saturated"] is None


@pytest.mark.parametrize("by", ["count", "nan", "abs_max", "rms", "never_active", "dead", "var"])
def test_any_number_of_a_channel(profile: Profile, by: str) -> None:
    rows = profile.rank(by)
    frame = profile.to_pandas().set_index(["layer", "channel"])
    assert [row[by] for row in rows] == [frame.loc[place, by] for place in places(rows)]
    assert [row[by] for row in rows] == sorted(frame[by], reverse=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "sparcity"}, "no layer has such a number; closest: sparsity; choose from count"),
        ({"by": "kurtosis"}, "rank by 'kurtosis': no layer has such a number"),
        ({"layers": "z"}, "layers: 'z' matches none of the tracked layers"),
        ({"types": "GELU"}, "match no layer chosen: there are ReLU, ReLU6, Linear"),
        ({"top": 1, "share": 0.5}, "top=1 and share=0.5 exclude each other"),
        ({"top": -1}, "top=-1: give the number of channels, 0 or more"),
        ({"share": 10}, "share=10: give a share of all channels chosen, from 0 to 1"),
    ],
)
def test_refused(profile: Profile, options: dict[str, object], message: str) -> None:
    with pytest.raises(FmstatsError, match=message):
        profile.rank(**options)
