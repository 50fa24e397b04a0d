"""Measures of a whole model: what was judged, and between what the rest may lie."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diagnosis_profiles import healthy, layer_of, profile_of, unseen
from hypothesis import given
from hypothesis import strategies as st

from fmstats.diagnosis.measures import COUNTED, NO_LAYER, Measure, measure_counts, measure_share
from fmstats.diagnosis.observed import FindingText, Verdict, observe

CHANNELS = st.lists(st.sampled_from(["hit", "fine", "unjudged"]), min_size=1, max_size=6)


def verdict(channels: list[str]) -> Verdict:
    judged = np.array([channel != "unjudged" for channel in channels])
    hit = np.array([channel == "hit" for channel in channels])
    return Verdict(judged, hit, lambda _: FindingText("", {}))


@given(st.lists(st.one_of(st.none(), CHANNELS), max_size=5))
def test_a_share_and_its_bounds(layers: list[list[str] | None]) -> None:
    """Between all that was not judged being fine, and being hit."""
    measure = measure_share([None if c is None else verdict(c) for c in layers], "channels")
    flat = [channel for channels in layers if channels is not None for channel in channels]
    hit, judged = flat.count("hit"), len(flat) - flat.count("unjudged")
    assert measure.unit == "share of channels"
    if not flat:
        assert (measure.value, measure.at_least, measure.at_most) == (None, 0, 1)
        assert measure.reason == "the rule applies to no layer of this profile"
        return
    assert measure.value == (hit / judged if judged else None)
    assert measure.at_least == hit / len(flat)
    assert measure.at_most == pytest.approx(1 - flat.count("fine") / len(flat))
    few = f"{len(flat) - judged} of {len(flat)} channels have too little data"
    assert measure.reason == (None if judged == len(flat) else few)


def test_counts_of_what_was_seen() -> None:
    x, y = healthy(), healthy()
    x[0, 0], x[1, 1], y[2, 2], y[3, 3] = math.nan, math.inf, -math.inf, math.nan
    profile = profile_of(layer_of(x), layer_of(y), samples=1000)
    found = measure_counts(observe(profile), {"errors": (2, 0), "infos": (1, 3)})
    assert found["nan"] == Measure(2, 2, 2, COUNTED["nan"])
    assert found["inf"] == Measure(2, 2, 2, COUNTED["inf"])
    assert found["samples"] == Measure(1000, 1000, 1000, COUNTED["samples"])
    assert found["errors"] == Measure(2, 2, 2, COUNTED["errors"])
    lacking = "3 verdicts have too little data"
    assert found["infos"] == Measure(1, 1, 4, COUNTED["infos"], lacking)


def test_counts_have_no_upper_bound_where_something_was_not_seen() -> None:
    state = layer_of(healthy())
    one_blind = layer_of(torch.cat([healthy(), healthy()]))
    one_blind.stats.state["count"][1] = 0
    for blind in (unseen(), one_blind):
        found = measure_counts(observe(profile_of(state, blind, blind)), {})
        reason = "2 layers have channels that saw nothing"
        assert found["nan"] == Measure(0, 0, None, COUNTED["nan"], reason)
        assert found["inf"].most == math.inf
        unknown = "the profile does not tell"
        assert found["samples"] == Measure(None, 0, None, COUNTED["samples"], unknown)


def test_counts_of_one_layer() -> None:
    found = measure_counts(observe(profile_of(layer_of(healthy(7)), samples=7)), {})
    assert {name: measure.value for name, measure in found.items()} == {
        **{"nan": 0, "inf": 0, "samples": 7},
    }


def test_without_a_layer_nothing_is_known() -> None:
    found = measure_counts([], {"errors": (0, 0)})
    assert found == {name: Measure(None, 0, None, COUNTED[name], NO_LAYER) for name in COUNTED}
    assert (Measure(1, 1, 3, "").most, Measure(1, 1, 0, "").most) == (3, 0)
