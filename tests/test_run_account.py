"""The account of a run is that of its parts, one after the other or side by side."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fmstats.errors import FmstatsError
from fmstats.profiles.coverage import Coverage, CoverageRow
from fmstats.runs.account import Account, describe_done, join, list_untracked
from fmstats.runs.counting import add_samples
from fmstats.sources.stored import Skipped

ROW = {"type": "Linear", "reason": None}
FIRST = Account(
    **{"started": "2026-01-01", "ended": "2026-01-02", "samples": 10, "batches": 3, "seconds": 2.0},
    skipped=Skipped(1, ["a"]),
    statistics_share=0.5,
    coverage=[{"name": "x", "status": "never fired", **ROW}],
    resumed=4,
    resumed_batches=1,
)
SECOND = Account(
    **{"started": "2025-12-31", "ended": "2026-01-01", "samples": 5, "batches": 2, "seconds": 6.0},
    skipped=Skipped(2, ["b", "c"]),
    statistics_share=0.25,
    coverage=[],
    resumed=2,
    resumed_batches=2,
)


@pytest.mark.parametrize("parallel", [False, True])
def test_join(parallel):
    whole = join([FIRST, SECOND], parallel=parallel)
    assert (whole.started, whole.ended) == ("2025-12-31", "2026-01-02")
    assert (whole.samples, whole.batches, whole.resumed, whole.resumed_batches) == (15, 5, 6, 3)
    assert (whole.skipped.count, whole.skipped.entries) == (3, ["a", "b", "c"])
    assert whole.seconds == (6.0 if parallel else 8.0)
    assert whole.statistics_share == pytest.approx((2 * 0.5 + 6 * 0.25) / 8)
    assert whole.coverage == []
    assert FIRST.samples == 10
    assert FIRST.skipped.count == 1  # the parts stay


def test_join_with_what_is_unknown():
    unknown = replace(SECOND, samples=None, resumed=None, statistics_share=None)
    whole = join([FIRST, unknown], parallel=False)
    assert (whole.samples, whole.resumed, whole.batches) == (None, None, 5)
    assert whole.statistics_share == 0.5
    none = join([replace(unknown), replace(unknown)], parallel=False)
    assert none.statistics_share is None
    brief = join([replace(FIRST, seconds=0.0)], parallel=False)
    assert brief.statistics_share is None
    assert (add_samples(), add_samples(0, 2), add_samples(2, None)) == (0, 2, None)


def test_coverage_is_the_last_word_on_each_layer():
    def rows(**status):
        return [{"name": name, "status": s, **ROW} for name, s in status.items()]

    before = replace(FIRST, coverage=rows(a="skipped", b="never fired"))
    after = replace(SECOND, coverage=rows(a="never fired", b="never fired", c="never fired"))
    # c was measured before; a was skipped, and then not met again.
    assert join([before, after], parallel=False).coverage == rows(a="skipped", b="never fired")
    later = replace(SECOND, coverage=rows(c="skipped"))
    assert join([before, later], parallel=False).coverage == rows(c="skipped")


def test_coverage_tells_of_layers_without_statistics():
    rows = [
        CoverageRow("a", "Linear", "tracked", None, 3),
        CoverageRow("b", "ReLU", "skipped", "is empty", 0),
        CoverageRow("c", "Linear", "never fired", None, 0),
    ]
    assert list_untracked(Coverage(rows)) == [
        {"name": "b", "type": "ReLU", "status": "skipped", "reason": "is empty"},
        {"name": "c", "type": "Linear", "status": "never fired", "reason": None},
    ]


def test_metadata_round_trip():
    told = FIRST.to_metadata()
    assert (told["skipped"], told["skipped_count"]) == (["a"], 1)
    assert Account.of_metadata({**told, "model": "x"}) == FIRST
    old = {key: value for key, value in told.items() if key != "resumed_batches"}
    assert Account.of_metadata(old) == replace(FIRST, resumed_batches=0)


@pytest.mark.parametrize("key", sorted(FIRST.to_metadata()))
def test_an_entry_that_was_edited_is_named(key):
    told = FIRST.to_metadata()
    if key != "resumed_batches":  # fmstats 0.1 does not tell
        with pytest.raises(FmstatsError, match=f"^'{key}' of the metadata is missing$"):
            Account.of_metadata({k: v for k, v in told.items() if k != key})
    for wrong in ({}, [3], [{}], [{"name": []}], [{"name": [], "status": ""}], True):
        with pytest.raises(FmstatsError) as caught:
            Account.of_metadata({**told, key: wrong})
        assert str(caught.value) == f"'{key}' of the metadata is {wrong}"


def test_rows_of_coverage_need_a_name_and_a_status():
    row = {"name": "a", "status": "skipped"}
    for rows in ([], [row], [row, {**row, "more": 1}]):
        told = {**FIRST.to_metadata(), "coverage": rows}
        assert Account.of_metadata(told).coverage == rows
    for key in row:
        rows = [row, {k: v for k, v in row.items() if k != key}]
        with pytest.raises(FmstatsError, match=r"^'coverage' of the metadata is \["):
            Account.of_metadata({**FIRST.to_metadata(), "coverage": rows})


def test_what_may_be_unknown_and_what_may_not():
    told = {key: None for key in FIRST.to_metadata()}
    unknown = {"samples", "resumed", "statistics_share"}
    for key in told:
        entries = {**FIRST.to_metadata(), key: None}
        if key in unknown:
            assert getattr(Account.of_metadata(entries), key) is None
        else:
            with pytest.raises(FmstatsError, match=f"^'{key}' of the metadata is None$"):
                Account.of_metadata(entries)


def test_how_much_was_done_in_words():
    assert describe_done({"samples": 12, "batches": 3}) == "12 samples"
    assert describe_done({"samples": None, "batches": 3}) == "3 batches"
