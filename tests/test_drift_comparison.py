"""What a comparison says: verdict, rows and texts, of layers made by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmstats.drift.comparison import Comparison, name_changes, overall_score
from fmstats.drift.effects import ChannelEffects
from fmstats.drift.layers import Evidence, LayerDrift

NONE, NEVER = np.zeros(3), np.zeros(3, dtype=bool)
STILL = ChannelEffects(NONE, NONE, NONE, NONE + 1, NEVER, NEVER, NEVER, NONE, NONE)


def layer(name: str, score: float, *shift: float, **effects: object) -> LayerDrift:
    told = {"shift": np.array([*shift, math.nan][:3])} if shift else {}
    return LayerDrift(name, "ReLU", score, {}, replace(STILL, **told, **effects))


def compared(*layers: LayerDrift, **fields: object) -> Comparison:
    made = Comparison(1.2, 1.5, "no drift", (), layers, {}, Evidence(40, 30))
    return replace(made, **fields)


THREE = (
    *(layer("a", 0.5, 1.0, 0.0, -6.0), layer("b", 7.0, 2.0, math.nan, 3.0)),
    layer("c", math.nan, 0.0, 5.0, 4.0),
)


def test_truth_is_drift() -> None:
    for verdict, drift in (("drift", True), ("no drift", False), ("not enough data", False)):
        assert (compared(verdict=verdict).drift, bool(compared(verdict=verdict))) == (drift, drift)


@pytest.mark.parametrize("top", [0, 1, 2, 3, None])
def test_the_top_of_layers_and_channels(top: int | None) -> None:
    found = compared(*THREE)
    assert [row["layer"] for row in found.top_layers(top)] == ["b", "a", "c"][:top]
    moved = [(row["layer"], row["channel"]) for row in found.top_channels(top)]
    ranked = [("a", 2), ("c", 1), ("c", 2), ("b", 2), ("b", 0), ("a", 0)]
    # What did not move keeps the order of execution.
    assert moved == [*ranked, ("a", 1), ("b", 1), ("c", 0)][:top]
    told = found.to_dict(top)
    assert told["layers"] == found.top_layers(top)
    assert told["channels"] == found.top_channels(top)


def test_to_dict() -> None:
    found = compared(
        *THREE, reasons=("so",), left_out={"z": "gone"}, evidence=Evidence(40, 30, (10, 11, 9))
    )
    told = found.to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["score"], told["threshold"], told["verdict"]) == (1.2, 1.5, "no drift")
    assert (told["reasons"], told["left_out"]) == (["so"], {"z": "gone"})
    assert (told["samples"], told["baseline_samples"]) == (40, 30)
    assert told["calibration_samples"] == [10, 11, 9]
    assert (len(told["layers"]), len(told["channels"])) == (3, 9)
    nothing = compared(score=math.nan, evidence=None).to_dict()
    assert nothing["score"] is None
    assert (nothing["samples"], nothing["baseline_samples"]) == (None, None)
    assert nothing["calibration_samples"] == []


def test_the_summary() -> None:
    assert compared(*THREE).describe(0) == (
        "no drift: score 1.2, drift if score >= 1.5 (about 1 by chance)\n"
        "40 samples against 30, 3 layers; the size of chance differences is assumed to be that of "
        "photographs"
    )
    found = compared(
        *(THREE[0],),
        **{"verdict": "drift", "score": 3.0, "reasons": ("one", "two")},
        **{"left_out": {"y": "", "z": ""}, "evidence": Evidence(40, 30, (10, 10, 10))},
    )
    assert found.describe(0) == (
        "drift: score 3, drift if score >= 1.5 (about 1 by chance)\n"
        "40 samples against 30, 1 layer; the size of chance differences is measured on 3 shards "
        "of the baseline\n  one\n  two\n  not compared: 2 layers"
    )
    assert compared(evidence=None).describe() == (
        "no drift: score 1.2, drift if score >= 1.5 (about 1 by chance)"
    )
    assert str(compared(*THREE)) == compared(*THREE).describe(10)


@pytest.mark.parametrize("top", [1, 2, None])
def test_tables_of_the_top_layers_and_channels(top: int | None) -> None:
    summary, *rest = compared(*THREE).blocks(top)
    layers, channels = (block for block in rest if not isinstance(block, str))
    assert isinstance(summary, str)
    assert (len(layers.rows), len(channels.rows)) == (top or 3, top or 9)
    assert [block for block in compared(*THREE).blocks(0) if not isinstance(block, str)] == []
    assert [block for block in compared().blocks(top) if not isinstance(block, str)] == []


def test_how_the_tables_look() -> None:
    dead = layer("a", 2.5, 1.0, 0.25, spread=NONE - 1, newly_dead=np.array([True, False, True]))
    found = compared(replace(dead, effects=replace(dead.effects, sparsity=NONE + 0.5)))
    assert found.describe(2).splitlines()[3:] == [
        "layer  type  score   shift  spread  sparsity  growth  dead  revived",
        "a      ReLU    2.5  0.7289       1     50.0%       1     2        0",
        "",
        "layer  channel  shift  spread  sparsity  growth   now",
        "a            0      1      -1     50.0%       1  dead",
        "a            1   0.25      -1     50.0%       1",
    ]


def test_where_room_is_short_what_tells_least_goes_first() -> None:
    layers, channels = (
        [column.name for column in sorted(table.columns[1:], key=lambda column: column.keep)]
        for table in compared(layer("a", 1.0, revived=~NEVER)).blocks()
        if not isinstance(table, str)
    )
    assert layers == [
        *("revived", "growth", "type", "newly_dead", "sparsity", "spread", "shift", "score"),
    ]
    assert channels == ["growth", "sparsity", "spread", "shift", "now", "channel"]


@pytest.mark.parametrize("happened", ["newly_dead", "revived", "newly_broken"])
def test_what_happened_is_named_in_a_column(happened: str) -> None:
    words = {"newly_dead": "dead", "revived": "revived", "newly_broken": "NaN or Inf"}[happened]
    found = compared(layer("a", 1.0, 3.0, 2.0, 1.0, **{happened: np.array([False, True, False])}))
    assert [name_changes(row) for row in found.top_channels()] == ["", words, ""]
    table = found.blocks()[-1]
    assert table.header[-1] == "now"
    (column,) = (column for column in table.columns if column.read is name_changes)
    grade = "error" if happened == "newly_broken" else "warning"
    assert [column.grade(words), column.grade("")] == [grade, None]
    assert compared(*THREE).blocks()[-1].header[-1] != "now"


def test_more_or_fewer_broken_elements_are_told_once() -> None:
    both = {
        "non_finite": np.array([0.5, -0.25, 0.0]),
        "newly_broken": np.array([True, False, False]),
    }
    rows = layer("a", 1.0, **both).channels()
    assert [name_changes(row) for row in rows] == ["NaN or Inf", "NaN or Inf -25%", ""]
    dead = layer("a", 1.0, **both, newly_dead=~NEVER).channels()
    assert name_changes(dead[1]) == "dead, NaN or Inf -25%"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.997, "+100%"), (-1.0, "-100%"), (0.128, "+13%"), (-0.00122, "-0.12%"), (2e-6, "+0.0002%")],
)
def test_a_share_of_broken_elements_is_told_in_percent(share: float, text: str) -> None:
    (row, *_) = layer("a", 1.0, non_finite=np.array([share, 0.0, 0.0])).channels()
    assert name_changes(row) == f"NaN or Inf {text}"


SCORES = st.floats(0, 100)


@given(st.lists(SCORES, min_size=1, max_size=60))
def test_the_score_is_between_half_the_highest_and_the_highest(scores: list[float]) -> None:
    score = overall_score(scores)
    assert max(scores) / 2 <= score <= max(scores)
    assert score >= np.median(scores)
    assert overall_score([math.nan, *scores, math.nan]) == score
    assert math.isnan(overall_score([math.nan] * len(scores)))


@given(st.lists(SCORES, min_size=24, max_size=60), st.integers(0, 59), st.integers(0, 59))
def test_a_section_of_higher_scores_is_the_score(scores: list[float], at: int, times: int) -> None:
    """One of eight, wherever it is: three layers or more, most of which are above the rest."""
    sections = np.array_split(np.array(scores), 8)
    sections[at % 8][:] = 101 + times
    assert overall_score(np.concatenate(sections).tolist()) == 101 + times


def test_two_layers_alone_are_no_section() -> None:
    assert overall_score([1.0] * 14 + [2.0] * 2) == 1
    assert overall_score([1.0] * 21 + [2.0] * 3) == 2
