"""The batches of a run: each of a share, by its number; what cannot be read is reported."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from fmstats.errors import FmstatsError
from fmstats.runs.batch_log import BatchLog
from fmstats.runs.reading import Reading, Share, open_batches, refuse_random_order
from fmstats.sources.batches import ModelInput
from fmstats.sources.data import DataSource
from fmstats.sources.stored import Skipped, Stored

ROWS = torch.arange(23.0).view(23, 1)
SHARES = st.builds(
    lambda ranks, rank, first: Share(rank % ranks, ranks, first),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(0, 8),
)


def pairs(rows: torch.Tensor = ROWS, size: int = 4) -> list[Any]:
    return [(batch, torch.zeros(len(batch))) for batch in rows.split(size)]


def stored(bad: Iterable[int] = ()) -> DataSource:
    """Of the same batches, of which some raise when they are read."""

    def read(
        spans: Iterable[range], skipped: Skipped
    ) -> Iterator[tuple[range, torch.Tensor | None]]:
        for span in spans:
            if span.start // 4 in bad:
                raise OSError("gone")
            if span.start == 20:
                skipped.add("the last")
                yield span, None
            else:
                yield span, ROWS[span.start : span.stop]

    return DataSource("x", 23, lambda: iter(()), stored=Stored(23, 4, read, {}))


class Failing:
    """Raises in place of some batches and goes on; of so many in all, if it tells."""

    def __init__(self, bad: Callable[[int], bool], length: int = 6) -> None:
        self.bad, self.length, self.at = bad, length, -1

    def __iter__(self) -> Failing:
        return self

    def __next__(self) -> object:
        self.at += 1
        if self.at >= self.length:
            raise StopIteration
        if self.bad(self.at):
            raise OSError("gone")
        return pairs()[self.at % 6]


class Sized(Failing):
    def __len__(self) -> int:
        return self.length


def read(
    batches: Iterable[object],
    limit: int | None = None,
    share: Share = Share(),  # noqa: B008
    skip: bool = True,
    **known: Any,
) -> tuple[list[int], list[float], list[str]]:
    """Numbers of the batches, the samples in them, and what was skipped."""
    skipped = Skipped()
    reading = Reading(batches, limit, None, share, "skip" if skip else "raise", skipped, **known)
    found = list(reading)
    samples = [x for _, batch in found for x in batch.args[0].flatten().tolist()]
    # Where in this file it was raised is told, too.
    told = [re.sub(r" \(test_run_reading.py, line \d+\)$", "", entry) for entry in skipped.entries]
    return [number for number, _ in found], samples, told


@given(SHARES, st.none() | st.integers(1, 30))
def test_a_share_of_what_the_limit_leaves(share: Share, limit: int | None) -> None:
    whole = list(range(min(limit or 23, 23)))
    # A stream may not end before the batches that were done before.
    share = replace(share, first=min(share.first, -(-len(whole) // 4)))
    numbers = [n for n in range(6) if 4 * n < len(whole) and share.has(n)]
    found = read(pairs(), limit, share)
    assert found == (numbers, [x for n in numbers for x in whole[4 * n : 4 * n + 4]], [])
    from_store = read(stored(), limit, share)
    assert from_store[0] == [n for n in numbers if n != 5]
    assert from_store[2] == (["the last"] if 5 in numbers else [])


@given(SHARES, st.sets(st.integers(0, 5)))
def test_stored_batches_that_raise_are_left_out(share: Share, bad: set[int]) -> None:
    mine = [n for n in range(6) if share.has(n)]
    numbers, _, skipped = read(stored(bad), share=share)
    assert numbers == [n for n in mine if n not in bad and n != 5]
    told = {n: f"reading batch {n + 1} raised OSError: gone" for n in bad}
    told |= {} if 5 in bad else {5: "the last"}
    assert skipped == [told[n] for n in mine if n in told]


@pytest.mark.parametrize("kind", ["stored", "stream"])
def test_the_first_that_raises_is_told_where_none_is_to_be_skipped(kind: str) -> None:
    data = stored([2]) if kind == "stored" else Failing(lambda n: n == 2)
    with pytest.raises(FmstatsError, match=r"^reading batch 3 raised OSError: gone \(") as caught:
        read(data, skip=False)
    assert isinstance(caught.value.__cause__, OSError)


def test_an_error_of_who_reads_is_not_one_of_reading() -> None:
    for data in (stored(), pairs()):
        reading = iter(Reading(data, None, None, Share(), "skip", Skipped()))
        next(reading)
        with pytest.raises(ZeroDivisionError):
            [1 / 0 for _ in reading]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_stream_that_goes_on_loses_what_raised(ranks: int) -> None:
    for rank in range(ranks):
        share = Share(rank, ranks)
        numbers, _, skipped = read(Failing(lambda n: n in (0, 3)), share=share)
        assert numbers == [n for n in (1, 2, 4, 5) if share.has(n)]
        told = [n for n in (0, 3) if share.has(n)]
        assert skipped == [f"reading batch {n + 1} raised OSError: gone" for n in told]


def test_what_ends_by_raising_may_have_lost_the_rest() -> None:
    lost = r"^the data ended at batch 7 because reading it raised .* are lost"
    with pytest.raises(FmstatsError, match=lost):
        read(Failing(lambda n: n == 5))
    assert read(Sized(lambda n: n == 5))[0] == [0, 1, 2, 3, 4]  # all that it has
    assert read(Failing(lambda n: n == 4))[0] == [0, 1, 2, 3, 5]

    def generate() -> Iterator[object]:
        yield pairs()[0]
        raise OSError("gone")

    with pytest.raises(FmstatsError, match="the data ended at batch 2 because reading it raised"):
        read(generate())


class Rows(IterableDataset[torch.Tensor]):
    """Rows one after the other, of which the last may raise."""

    def __init__(self, last: bool) -> None:
        self.rows = Failing(lambda n: last and n == 5)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return map(lambda pair: pair[0], self.rows)


def test_a_loader_over_rows_of_unknown_number_does_not_say_where_it_ends() -> None:
    assert read(DataLoader(Rows(last=False), batch_size=None))[0] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(FmstatsError, match=r"^the data ended at batch 7 because reading"):
        read(DataLoader(Rows(last=True), batch_size=None))


@pytest.mark.parametrize(("failures", "ends"), [(99, False), (100, True)])
def test_a_hundred_failures_one_after_the_other_are_the_end(failures: int, ends: bool) -> None:
    data = Failing(lambda n: 1 <= n < 3 or 4 <= n < 4 + failures, length=5 + failures)
    if ends:
        with pytest.raises(FmstatsError, match="the data ended at batch 104 because"):
            read(data)
    else:
        assert read(data)[0] == [0, 3, 103]


def log_of(batches: Iterable[Any]) -> tuple[int, str]:
    batch_log = BatchLog()
    for x, y in batches:
        batch_log.add(ModelInput((x,), labels=(y,)))
    return batch_log.seen, batch_log.digest


def test_batches_are_compared_with_those_of_before() -> None:
    known = log_of(pairs()[:3])
    batch_log = BatchLog()
    share = Share(first=3)
    assert read(pairs(), share=share, batch_log=batch_log, known=known)[0] == [3, 4, 5]
    assert (batch_log.seen, batch_log.digest) == log_of(pairs())
    other = pairs()
    other[2] = (other[2][0] + 1, other[2][1])
    with pytest.raises(FmstatsError, match=r"^the first 3 batches differ from those"):
        read(other, share=share, batch_log=BatchLog(), known=known)
    assert read(pairs()[:3], share=share, batch_log=BatchLog(), known=known)[0] == []
    with pytest.raises(FmstatsError, match=r"^the data ended after 2 batches, .* read 3 "):
        read(pairs()[:2], share=share, batch_log=BatchLog(), known=known)
    with pytest.raises(FmstatsError, match=r"^the data ended after 2 batches, .* read 3 "):
        read(pairs()[:2], batch_log=BatchLog(), known=known)  # of which this share had none


def test_data_that_go_on_where_a_run_had_ended() -> None:
    known = log_of(pairs()[:3])
    assert read(pairs()[:3], batch_log=BatchLog(), known=known, ended=True)[0] == [0, 1, 2]
    with pytest.raises(FmstatsError, match=r"more batches than the 3 with which the run ended"):
        read(pairs()[:4], batch_log=BatchLog(), known=known, ended=True)


@pytest.mark.parametrize("limit", [1, 4, 5, 8])
def test_no_batch_is_read_in_vain(limit: int) -> None:
    data = Failing(lambda n: n >= -(-limit // 4))
    assert read(data, limit)[1] == list(range(limit))


def test_a_limit_names_the_batch_of_which_nothing_tells_the_samples() -> None:
    with pytest.raises(FmstatsError, match="nothing tells how many batch 2 has"):
        read([pairs()[0], ROWS[:3]], limit=20)
    with pytest.raises(FmstatsError, match=r"^batch 2 is of type int"):
        read([pairs()[0], 3], skip=False)


def test_batches_of_data() -> None:
    (lone,) = open_batches(np.zeros((3, 2), np.float32))
    assert (lone.stacked, lone.samples) == (True, 3)
    batches = pairs()
    assert open_batches(batches) is batches
    with pytest.raises(FmstatsError):
        open_batches(3)


def test_a_loader_that_shuffles_is_refused_unless_it_is_seeded() -> None:
    data = TensorDataset(ROWS)
    refuse_random_order(DataLoader(data), "group=")
    refuse_random_order(DataLoader(data, shuffle=True, generator=torch.Generator()), "group=")
    refuse_random_order(pairs(), "group=")
    with pytest.raises(
        FmstatsError, match=r"^group= needs the same batches in the same order each"
    ):
        refuse_random_order(DataLoader(data, shuffle=True), "group=")
