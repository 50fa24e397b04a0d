"""Run a model over data once and return the profile of its feature maps.

The caller's model comes back as it was: its training flags, device, dtype and memory format are
those of before, and no hook is left, however the run ends.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fmstats.errors import FmstatsError
from fmstats.profiles import Profile
from fmstats.saturation import Bounds
from fmstats.selection import Selection, Selector
from fmstats.sources.batches import ModelInput, read_batches
from fmstats.sources.data import DataSource, open_data, require_batches
from fmstats.sources.entrypoints import describe_error
from fmstats.sources.placement import copy_model, find_placement, is_placed, move_model
from fmstats.tracker import track


def profile(
    model: torch.nn.Module,
    data: object,
    *,
    include: Selection = None,
    exclude: Selection = None,
    of: str = "output",
    every: int = 1,
    channel_dim: str | int | Mapping[Selector, int] = "auto",
    zero_tol: float = 0.0,
    backend: str = "auto",
    per_call: bool = False,
    on_error: str = "raise",
    saturation: Mapping[Selector, Bounds] | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    channels_last: bool = False,
    limit: int | None = None,
    progress: bool = True,
) -> Profile:
    """Run `model` over `data` once, in evaluation mode and in `torch.inference_mode`.

    Batches are moved to the device and, where floating, to the dtype of the model's first floating
    parameter (or buffer). Where `device`, `dtype` or `channels_last` asks for another, a copy of
    the model runs and `model` stays where it is.

    Args:
        model: any module; its parts are chosen by `include` and `exclude` as in `fmstats.track`.
        data: an iterable of batches (see `fmstats.sources.batches` for their forms), a DataSource,
            the text or path that `fmstats.sources.open_data` takes, or a single tensor or array,
            which is one batch.
        include: the layers to observe, as in `fmstats.track`; None: every leaf module.
        exclude: the layers to leave out, as in `fmstats.track`.
        of: as in `fmstats.track`, like the next seven.
        every: one forward pass in so many.
        channel_dim: where the channels are.
        zero_tol: what counts as zero.
        backend: what measures.
        per_call: whether each call of a layer has a row.
        on_error: "raise" or "warn".
        saturation: bounds by selector.
        device: where to run; None: where the model is.
        dtype: what to run in; None: the model's own.
        channels_last: run 4-d weights and inputs in the channels_last memory format.
        limit: stop after this many samples; the last batch is cut to fit where its tensors agree in
            their first dimension. None: all.
        progress: show a bar on stderr where rich is installed and stderr is a terminal.

    Returns:
        The profile. Its metadata has `samples`, `batches`, `seconds`; `data` (a description) and
        `skipped` (unreadable files) for a DataSource; and `coverage`, a list with the name, type,
        status and reason of each layer that was selected but has no statistics.

    Raises:
        FmstatsError: the data has no batch or cannot be read, or the model refuses a batch. The
            message tells which batch and how many were folded before it, and the cause is kept.
    """
    if not isinstance(model, torch.nn.Module):
        raise FmstatsError(f"model is of type {type(model).__name__}, not an nn.Module")
    if limit is not None and limit < 1:
        raise FmstatsError(f"limit {limit} must be at least 1")
    batches = open_batches(data)
    if not is_placed(model, device, dtype, channels_last):
        model = move_model(copy_model(model), device, dtype, channels_last)
    target = find_placement(model, device, dtype)
    started = time.perf_counter()
    tracker = track(
        model,
        include,
        exclude,
        of=of,
        every=every,
        channel_dim=channel_dim,
        zero_tol=zero_tol,
        backend=backend,
        per_call=per_call,
        on_error=on_error,
        saturation=saturation,
    )
    with tracker, evaluate(model), _show_progress(batches, limit, progress) as advance:
        samples, count = 0, 0
        for inputs in _read(batches, limit):
            _fold(model, inputs, count, target, channels_last)
            samples, count = samples + inputs.samples, count + 1
            advance(inputs.samples)
        if not count:
            raise FmstatsError("the data gave no batch: it is empty, or an iterator used up before")
        result = tracker.stats()
        coverage = tracker.coverage()
    result.metadata.update(
        samples=samples,
        batches=count,
        seconds=time.perf_counter() - started,
        coverage=[
            {"name": row.name, "type": row.type, "status": row.status, "reason": row.reason}
            for row in coverage
            if row.status != "tracked"
        ],
    )
    if isinstance(batches, DataSource):
        result.metadata.update(data=batches.description, skipped=list(batches.skipped))
    return result


def open_batches(data: object) -> Iterable[object]:
    """The batches of what `profile` takes as data, to be run through once.

    Raises:
        FmstatsError: it is none of these.
    """
    if isinstance(data, str | Path):
        return open_data(data)
    if isinstance(data, torch.Tensor | np.ndarray):
        return [data]
    return require_batches(data, "data")


@contextlib.contextmanager
def evaluate(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each module has its own training flag again."""
    flags = [(module, module.training) for module in model.modules()]
    was_training = model.training
    try:
        try:
            model.eval()
        except NotImplementedError:  # An exported program keeps the mode it was exported in.
            for module, _ in flags:
                module.training = False
        yield
    finally:
        if was_training:
            # Not by flags alone: some models merge weights in eval() and part them in train().
            with contextlib.suppress(NotImplementedError):
                model.train()
        for module, flag in flags:
            module.training = flag


def _read(batches: Iterable[object], limit: int | None) -> Iterator[ModelInput]:
    """Yield the batches as model inputs; errors tell how far the run has come."""
    number = 0
    try:
        for number, inputs in enumerate(read_batches(batches, limit), start=1):  # noqa: B007
            yield inputs
    except FmstatsError as error:
        raise FmstatsError(f"{error}{_tell_folded(number)}") from error
    except Exception as error:
        raise FmstatsError(
            f"reading batch {number + 1} raised {describe_error(error)}{_tell_folded(number)}"
        ) from error


def _fold(
    model: torch.nn.Module,
    inputs: ModelInput,
    folded: int,
    target: tuple[torch.device | None, torch.dtype | None],
    channels_last: bool,
) -> None:
    """Run one batch through the observed model, after `folded` others."""
    try:
        placed = inputs.to(*target, channels_last)
        # Lazy modules make their parameters in this call; inference mode would bar them for ever
        # from training.
        lazy = folded == 0 and any(map(torch.nn.parameter.is_lazy, model.parameters()))
        with torch.no_grad() if lazy else torch.inference_mode():
            model(*placed.args, **placed.kwargs)
    except FmstatsError as error:
        raise FmstatsError(f"batch {folded + 1}: {error}{_tell_folded(folded)}") from error
    except Exception as error:
        raise FmstatsError(
            f"the model refused batch {folded + 1}, {inputs.describe()}: "
            f"{describe_error(error)}{_tell_folded(folded)}"
        ) from error


def _tell_folded(count: int) -> str:
    return f" ({count} {'batch was' if count == 1 else 'batches were'} folded before)"


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


@contextlib.contextmanager
def _show_progress(
    batches: Iterable[object], limit: int | None, wanted: bool
) -> Iterator[Callable[[int], None]]:
    """Give a function to call with the samples of each batch done."""
    bar = _build_bar() if wanted and sys.stderr is not None and sys.stderr.isatty() else None
    if bar is None:
        yield lambda samples: None
        return
    total, unit = _find_total(batches, limit)
    with bar:
        task = bar.add_task(unit, total=total)
        yield lambda samples: bar.advance(task, samples if unit == "samples" else 1)


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
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
