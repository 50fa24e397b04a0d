"""Show on stderr how far a run has come."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fmstats.sources.data import DataSource

Advance = Callable[[int | None, float | None], None]


@contextlib.contextmanager
def show_progress(
    batches: Iterable[object],
    limit: int | None,
    wanted: bool,
    *,
    ranks: int = 1,
    done: tuple[int, int] = (0, 0),
) -> Iterator[Advance]:
    """Give a function that takes the samples of each batch and the share of the statistics.

    Where nobody knows how many samples a batch has, batches are shown instead.

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
    began, samples_done, batches_done = time.perf_counter(), 0, done[1]
    with bar:
        task = bar.add_task(unit, total=total, completed=done[unit == "batches"], speed="")

        def advance(samples: int | None, share: float | None) -> None:
            nonlocal samples_done, batches_done, unit
            batches_done += 1
            shown: dict[str, Any] = {"advance": samples if unit == "samples" else 1}
            if samples is None:
                rate, of = (batches_done - done[1]) / (time.perf_counter() - began), "batches/s"
                if unit == "samples":
                    unit = "batches"
                    shown = {"description": unit, "total": None, "completed": batches_done}
            else:
                samples_done += samples
                rate, of = samples_done / (time.perf_counter() - began), "samples/s"
            speed = f"{rate:,.0f} {of}" if rate >= 100 else f"{rate:.3g} {of}"
            if share is not None:
                speed += f", statistics {100 * share:.2g} %"
            bar.update(task, speed=speed, **shown)

        yield advance


def _find_total(batches: Iterable[object], limit: int | None) -> tuple[int | None, str]:
    """Return the length of the run and its unit, as far as they can be known."""
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
