"""The bar that shows how far a run has come, on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fmstats.sources.data import DataSource

Advance = Callable[[int, float | None], None]


@contextlib.contextmanager
def show_progress(
    batches: Iterable[object],
    limit: int | None,
    wanted: bool,
    *,
    ranks: int = 1,
    done: tuple[int, int] = (0, 0),
) -> Iterator[Advance]:
    """Give a function to call with the samples of a batch done and the share of the statistics.

    Args:
        batches: what is run through.
        limit: of samples.
        wanted: whether to show anything, as far as it can be.
        ranks: processes that share the batches evenly.
        done: samples and batches of before.
    """
    bar = _build_bar() if wanted and sys.stderr is not None and sys.stderr.isatty() else None
    if bar is None:
        yield lambda samples, share: None
        return
    total, unit = _find_total(batches, limit)
    total = None if total is None else -(-total // ranks)
    began, count = time.perf_counter(), 0
    with bar:
        task = bar.add_task(unit, total=total, completed=done[unit == "batches"], speed="")

        def advance(samples: int, share: float | None) -> None:
            nonlocal count
            count += samples
            rate = count / (time.perf_counter() - began)
            speed = f"{rate:,.0f} samples/s" if rate >= 100 else f"{rate:.3g} samples/s"
            if share is not None:
                speed += f", statistics {100 * share:.2g} %"
            bar.update(task, advance=samples if unit == "samples" else 1, speed=speed)

        yield advance


def _find_total(batches: Iterable[object], limit: int | None) -> tuple[int | None, str]:
    """The length of the run and its unit, as far as it can be known."""
    if isinstance(batches, DataSource) and batches.samples is not None:
        return min(batches.samples, limit or batches.samples), "samples"
    if limit is not None:
        return limit, "samples"
    try:
        return len(batches), "batches"  # type: ignore[arg-type]
    except TypeError:  # No length, or a DataLoader over an IterableDataset.
        return None, "samples"


def _build_bar() -> Any:
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        return None
    return progress.Progress(
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.description}"),
        progress.TextColumn("{task.fields[speed]}"),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
