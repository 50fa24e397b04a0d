"""Read the batches of one process by number, from where the run has come to.

Stored samples are read from there, and only those of this process. Any other iterable is gone
through from its beginning, and every process goes through all of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from types import GeneratorType
from typing import Literal

import numpy as np
import torch

from fmstats.errors import FmstatsError
from fmstats.runs.batch_log import BatchLog
from fmstats.sources.batches import (
    ModelInput,
    find_batch_dim,
    read_batch,
    require_samples,
)
from fmstats.sources.conversion import to_tensor
from fmstats.sources.data import DataSource, open_data, require_batches
from fmstats.sources.entrypoints import describe_error
from fmstats.sources.stored import Skipped, Stored

OnBadSample = Literal["raise", "skip"]

_OR_TRUST = (
    "; or delete the checkpoint, give another one, or give resume='trust' (--resume trust) if the "
    "data are equivalent"
)
_MOST_FAILURES = 100  # of reading, one after the other: whatever gives the batches is broken


def open_batches(data: object, on_bad_sample: OnBadSample = "raise") -> Iterable[object]:
    """Open what `profile` takes as data, as batches to be run through once.

    Raises:
        FmstatsError: it is none of these.
    """
    if isinstance(data, str | Path):
        return open_data(data, on_bad_sample=on_bad_sample)
    if isinstance(data, torch.Tensor | np.ndarray):
        return [ModelInput((to_tensor(data),), stacked=True)]
    return require_batches(data, "data")


def refuse_random_order(batches: Iterable[object], asked: str) -> None:
    """Refuse a DataLoader that gives another order each time it is made.

    Raises:
        FmstatsError: it is one; `asked` says what needs the same order.
    """
    sampler = getattr(batches, "sampler", None)
    if isinstance(sampler, torch.utils.data.RandomSampler) and sampler.generator is None:
        raise FmstatsError(
            f"{asked} needs the same batches in the same order each time, and this DataLoader "
            "shuffles: make it with shuffle=False, or with a generator= that you have seeded"
        )


@dataclass(frozen=True)
class Share:
    """Selects the batches of one process: every `ranks`-th from `rank`, none before `first`."""

    rank: int = 0
    ranks: int = 1
    first: int = 0

    def has(self, number: int) -> bool:
        """Return whether the share has the batch of this number."""
        return number >= self.first and number % self.ranks == self.rank

    def numbers(self, stop: int) -> range:
        """Return the numbers of its batches below `stop`."""
        return range(self.first + (self.rank - self.first) % self.ranks, stop, self.ranks)


@dataclass(frozen=True)
class Reading:
    """Gives the number and the arguments of each batch of a share.

    Attributes:
        limit: of samples, over all shares; None for all.
        batch_dim: along which samples run, where the caller says so.
        on_bad_sample: what to do with a batch that cannot be read: "raise", or "skip" and note it.
        skipped: where what is left out is noted.
        batch_log: logs the batches read, where nothing else identifies the data.
        known: how many batches were read before the run was resumed, and the digest of them.
        ended: whether the data had come to an end there.

    Raises:
        FmstatsError: a batch cannot be read and is not skipped; it is unknown whether batches
            follow one that raised; or the data differ from those before the run was resumed.
    """

    batches: Iterable[object]
    limit: int | None
    batch_dim: int | None
    share: Share
    on_bad_sample: OnBadSample
    skipped: Skipped
    batch_log: BatchLog | None = None
    known: tuple[int, str] | None = None
    ended: bool = False

    def __iter__(self) -> Iterator[tuple[int, ModelInput]]:
        """Begin to read."""
        stored = self.batches.stored if isinstance(self.batches, DataSource) else None
        return self._go_through() if stored is None else self._read(stored)

    def _read(self, stored: Stored) -> Iterator[tuple[int, ModelInput]]:
        spans = stored.spans(self.limit)
        numbers = self.share.numbers(len(spans))
        while numbers:
            done = 0
            try:
                for _, batch in stored.read((spans[n] for n in numbers), self.skipped):
                    done += 1
                    if batch is not None:
                        yield numbers[done - 1], ModelInput((batch,), batch_dim=0)
                return
            except Exception as error:
                if done == len(numbers):
                    raise
                self._leave_out(numbers[done], error)
                numbers = numbers[done + 1 :]

    def _go_through(self) -> Iterator[tuple[int, ModelInput]]:
        iterator, dim = self._begin()
        left, failures = self.limit, 0
        for number in itertools.count():
            try:
                inputs = read_batch(next(iterator), number + 1, dim)
            except StopIteration:
                before = max(self.share.first, 0 if self.known is None else self.known[0])
                if number < before:
                    raise FmstatsError(
                        f"the data ended after {number} batches, but the run had read {before} "
                        f"when it stopped: give the same data from the start{_OR_TRUST}"
                    ) from None
                if failures and not self._ends_at(number):
                    raise self._lost(number) from None
                return
            except Exception as error:
                failures += 1
                self._leave_out(number, error)
                self._note(None)
                if failures == _MOST_FAILURES or isinstance(iterator, GeneratorType):
                    raise self._lost(number) from error
                continue
            failures = 0
            if left is not None:
                inputs = inputs.cut(left)
                left -= require_samples(inputs, number + 1)
            self._note(inputs)
            if self.share.has(number):
                yield number, inputs
            if left is not None and left <= 0:  # Here: no batch is read in vain.
                return

    def _note(self, inputs: ModelInput | None) -> None:
        """Note a batch, and compare those up to it with those before the run was resumed."""
        if self.batch_log is None:
            return
        self.batch_log.add(inputs)
        if self.known is None:
            return
        seen, digest = self.known
        if self.batch_log.seen == seen and self.batch_log.digest != digest:
            raise FmstatsError(
                f"the first {seen} batches differ from those that the run read before it stopped: "
                "the data are different, are in a different order, or are augmented at random"
                f"{_OR_TRUST}"
            )
        if self.ended and self.batch_log.seen > seen:
            raise FmstatsError(
                f"the data have more batches than the {seen} with which the run ended: give the "
                f"same data{_OR_TRUST}"
            )

    def _begin(self) -> tuple[Iterator[object], int | None]:
        """Return an iterator of batches, and the dim of their samples where that is known."""
        batches = self.batches
        try:
            if isinstance(batches, DataSource):
                batches = batches.begin()
            known = find_batch_dim(batches) if self.batch_dim is None else self.batch_dim
            return iter(batches), known
        except FmstatsError:
            raise
        except Exception as error:
            raise FmstatsError(f"reading batch 1 raised {describe_error(error)}") from error

    def _leave_out(self, number: int, error: Exception) -> None:
        """Note the batch as skipped if it is in this share, or raise."""
        text = str(error)
        if not isinstance(error, FmstatsError):
            text = f"reading batch {number + 1} raised {describe_error(error)}"
        if self.on_bad_sample == "raise":
            raise FmstatsError(text) from error
        if self.share.has(number):
            self.skipped.add(text)

    def _ends_at(self, number: int) -> bool:
        try:
            return isinstance(self.batches, Sized) and len(self.batches) == number
        except TypeError:  # A DataLoader over an IterableDataset.
            return False

    def _lost(self, number: int) -> FmstatsError:
        return FmstatsError(
            f"the data ended at batch {number + 1} because reading it raised an error, and the "
            "batches after it are lost: a generator ends when it raises, so let it catch its "
            "errors, or give a DataLoader or an iterator that continues after an error"
        )
