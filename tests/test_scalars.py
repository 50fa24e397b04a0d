"""The flat dict of a profile holds the numbers of `Profile.layers()`, and only numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import fmstats
from fmstats.profiles.scalars import DEFAULT, STATS


@pytest.fixture
def profile():
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU6(), nn.Identity())
    model[2].register_forward_hook(lambda *_: torch.full((1, 2), math.nan))
    with fmstats.track(model) as tracker:
        model(torch.randn(2, 1, 4, 4))
    return tracker.stats()


def test_the_statistics_are_the_numbers_of_a_row(profile):
    assert set(STATS) == profile.layers()[0].keys() - {"layer", "type"}


def test_the_numbers_are_those_of_the_rows(profile):
    flat = profile.scalars(STATS)
    for row in profile.layers():
        for stat in STATS:
            finite = row["count"] > row["nan"] + row["inf"] or stat in (
                "channels",
                "count",
                "nan",
                "inf",
            )
            known = row[stat] is not None and not math.isnan(row[stat]) and finite
            assert flat.get(f"{row['layer']}.{stat}") == (row[stat] if known else None)
    assert all(type(value) is float for value in flat.values())


def test_what_is_not_known_is_left_out(profile):
    flat = profile.scalars()
    assert {key for key in flat if key.startswith("0.")} == {
        f"0.{stat}" for stat in DEFAULT if stat != "saturated"
    }
    assert {key for key in flat if key.startswith("1.")} == {f"1.{stat}" for stat in DEFAULT}
    assert "2.mean" not in flat
    assert flat["2.nan"] == 2


def test_keys_keep_names_and_take_a_prefix():
    inner = nn.Sequential(nn.ReLU())
    model = nn.ModuleDict({"a": nn.ModuleDict({"b": inner})})
    model.forward = lambda x: inner(inner(x))
    with fmstats.track(model, per_call=True) as tracker:
        model(torch.randn(2, 3))
    flat = tracker.stats().scalars("mean", prefix="run/")
    assert set(flat) == {"run/a.b.0#0.mean", "run/a.b.0#1.mean"}


def test_the_model_itself_has_the_name_of_the_tables():
    model = nn.ReLU()
    with fmstats.track(model) as tracker:
        model(torch.randn(2, 3))
    assert list(tracker.stats().scalars("mean")) == ["(model).mean"]


@pytest.mark.parametrize("stats", ["average", ["mean", "average"]])
def test_an_unknown_statistic(profile, stats):
    with pytest.raises(
        fmstats.FmstatsError, match="unknown statistic 'average': choose channels, count, mean, "
    ):
        profile.scalars(stats)
