"""Measures of a whole model: what was judged, and between what the rest may lie."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diagnosis_profiles import healthy, layer_of, profile_of, unseen
from hypothesis import given
from hypothesis import strategies as st

from fmstats.diagnosis import read_conditions
from fmstats.diagnosis.measures import (
    COUNTED,
    NO_LAYER,
    Measure,
    measure_counts,
    measure_run,
    measure_share,
)
from fmstats.diagnosis.observed import FindingText, Verdict, observe
from fmstats.profiles.profile import LayerProfile

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
    names = [name for name in COUNTED if name != "unmeasured"]
    assert found == {name: Measure(None, 0, None, COUNTED[name], NO_LAYER) for name in names}
    assert (Measure(1, 1, 3, "").most, Measure(1, 1, 0, "").most) == (3, 0)


def test_what_a_run_tells() -> None:
    coverage = [{"status": "never fired"}, {"status": "unseen"}, {"status": "unmasked"}]
    told = measure_run({"samples": 95, "skipped_count": 5, "coverage": coverage})
    assert (told["skipped"].value, told["skipped"].reason) == (0.05, None)
    assert (told["unmeasured"].value, told["unmeasured"].reason) == (2, None)
    untold = measure_run({"samples": None, "skipped_count": 5})
    assert (untold["skipped"].at_least, untold["skipped"].at_most) == (0, 1)
    assert (untold["unmeasured"].at_least, untold["unmeasured"].at_most) == (0, None)
    assert measure_run({"samples": 0, "skipped_count": 0, "coverage": []})["skipped"].value == 0


def relu(samples: int = 1000, dead: int = 0) -> torch.Tensor:
    x = healthy(samples).clamp(min=0)
    x[:, :dead] = 0
    return x


def share(*layers: LayerProfile) -> tuple[float, float]:
    found = profile_of(*layers).diagnose().measures["dead"]
    return found.at_least, found.most


def test_a_share_is_of_the_layers_that_a_rule_is_about() -> None:
    behind = layer_of(relu(dead=1), type="ReLU")
    logits = layer_of(healthy(20), type="Linear")  # too few to judge, and no matter
    assert share(layer_of(healthy(), type="Conv2d"), behind, logits) == (0.25, 0.25)
    # Numbers that end at 0 tell it, whatever the type is called.
    assert share(layer_of(healthy()), layer_of(-relu(dead=1), type="Mine")) == (0.25, 0.25)
    # What Dropout passes on in eval mode has been counted.
    dropout = layer_of(relu(dead=1), type="Dropout")
    assert share(layer_of(relu(), type="ReLU"), behind, dropout) == (0.125, 0.125)


def test_what_is_found_elsewhere_counts_unless_it_repeats() -> None:
    conv = healthy()
    conv[:, 2:] = 0
    found = layer_of(conv, type="Conv2d")
    assert share(layer_of(relu(), type="ReLU"), found) == (0.25, 0.25)
    before = layer_of(relu(dead=0) * torch.tensor([1, 1, 0, 0]), type="ReLU")
    assert share(before, found) == (0.5, 0.5)  # the convolution after it says it again


def test_shares_of_layers_are_of_the_same_layers() -> None:
    dropout = layer_of(relu(dead=1), type="Dropout")
    found = profile_of(
        layer_of(relu(dead=1), type="ReLU"), dropout, layer_of(healthy(20))
    ).diagnose()
    (every,) = read_conditions("mean(dead)@*>10%")
    (one,) = read_conditions("dead@Dropout>0")
    assert every.judge(found.measures, found.by_layer).measure == found.measures["dead"]
    assert one.judge(found.measures, found.by_layer).verdict == "not enough data"


def test_a_rule_about_no_layer_is_about_all() -> None:
    conv = healthy()
    conv[:, 0] = 0
    assert share(layer_of(conv), layer_of(healthy())) == (0.125, 0.125)
    assert share(layer_of(healthy())) == (0, 0)
