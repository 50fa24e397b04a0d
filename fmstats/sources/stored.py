"""Describe stored samples, any of which can be read without those before it.

So a run can be cut anywhere, spread over processes, and gone on with. A batch is a span of places:
it is the same batch whoever reads it, and what of it cannot be read makes it smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

MOST_ENTRIES = 100


@dataclass
class Skipped:
    """Notes what was left out.

    Attributes:
        count: images and batches left out.
        entries: what and why of the first `MOST_ENTRIES` of them.
    """

    count: int = 0
    entries: list[str] = field(default_factory=list)

    def add(self, entry: str) -> None:
        """Note one more, as a text that says what and why."""
        self.extend(Skipped(1, [entry]))

    def extend(self, other: Skipped) -> None:
        """Note all entries of another."""
        self.count += other.count
        self.entries += other.entries[: MOST_ENTRIES - len(self.entries)]

    def clear(self) -> None:
        """Forget all entries."""
        self.count = 0
        self.entries.clear()


@dataclass(frozen=True)
class Stored:
    """Describes samples in a fixed order.

    Attributes:
        samples: how many there are.
        batch_size: how many make a batch.
        read: gives each of some spans of places and its batch, or None where nothing in it can be
            read; what is left out is noted.
        identity: what distinguishes these samples from others, in numbers and short texts.
        files: the file that each sample is made of, where each has its own.
    """

    samples: int
    batch_size: int
    read: Callable[[Iterable[range], Skipped], Iterator[tuple[range, torch.Tensor | None]]]
    identity: Mapping[str, str | int]
    files: Sequence[Path] | None = None

    def spans(self, limit: int | None = None) -> list[range]:
        """Return the range of each batch, of at most the first `limit` samples."""
        stop = self.samples if limit is None else min(limit, self.samples)
        starts = range(0, stop, self.batch_size)
        return [range(start, min(start + self.batch_size, stop)) for start in starts]
