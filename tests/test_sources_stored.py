"""Stored samples: their spans, and the account of what was left out."""

from __future__ import annotations

import pytest

from fmstats.sources.stored import MOST_ENTRIES, Skipped, Stored


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [(None, [4, 4, 2]), (10, [4, 4, 2]), (99, [4, 4, 2]), (8, [4, 4]), (9, [4, 4, 1]), (1, [1])],
)
def test_spans(limit, sizes):
    spans = Stored(10, 4, lambda spans, skipped: iter(()), {}).spans(limit)
    assert [len(span) for span in spans] == sizes
    assert [place for span in spans for place in span] == list(range(sum(sizes)))


def test_what_is_left_out_is_counted_and_named_up_to_a_bound():
    skipped = Skipped()
    for number in range(MOST_ENTRIES + 5):
        skipped.add(str(number))
    assert skipped.count == MOST_ENTRIES + 5
    assert skipped.entries == list(map(str, range(MOST_ENTRIES)))
    other = Skipped(3, ["a"])
    other.extend(skipped)
    assert other.count == MOST_ENTRIES + 8
    assert other.entries == ["a", *map(str, range(MOST_ENTRIES - 1))]
    skipped.clear()
    assert (skipped.count, skipped.entries) == (0, [])
    assert len(other.entries) == MOST_ENTRIES
