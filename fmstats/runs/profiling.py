"""`profile`: one run of a model over data, in one process or in several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fmstats.errors import FmstatsError, check_whole
from fmstats.modes import in_mode
from fmstats.profiles import Profile
from fmstats.runs.checkpoints import Checkpoint, Progress
from fmstats.runs.cost import Cost
from fmstats.runs.counting import Counting
from fmstats.runs.folding import Folder, Placement
from fmstats.runs.identity import Identity, describe_data, describe_model, describe_options
from fmstats.runs.part import Part
from fmstats.runs.progress import Advance, show_progress
from fmstats.runs.reading import OnBadSample, Share, open_batches, refuse_random_order
from fmstats.runs.shards import merge_shards, path_of, share_of
from fmstats.runs.stopping import Interrupts
from fmstats.saturation import Bounds
from fmstats.selection import Selection, Selector, select
from fmstats.sources.data import DataSource
from fmstats.sources.placement import copy_model, find_placement, is_placed, move_model
from fmstats.tracker import track
from fmstats.wrappers import has_compiled_parts


def profile(
    model: torch.nn.Module,
    data: object,
    *,
    include: Selection = None,
    exclude: Selection = None,
    of: str = "output",
    every: int = 1,
    budget: float | None = None,
    channel_dim: str | int | Mapping[Selector, int] = "auto",
    zero_tol: float = 0.0,
    backend: str = "auto",
    per_call: bool = False,
    on_error: str = "raise",
    saturation: Mapping[Selector, Bounds] | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    channels_last: bool = False,
    compile: bool = False,
    limit: int | None = None,
    batch_dim: int | None = None,
    on_bad_sample: OnBadSample = "raise",
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    group: object = None,
    progress: bool = True,
) -> Profile:
    """Run `model` over `data` once, in evaluation mode and in `torch.inference_mode`.

    Batches are moved to the device and, where floating, to the dtype of the model's first floating
    parameter (or buffer). Where `device`, `dtype` or `channels_last` asks for another, a copy of
    the model runs and `model` stays where it is.

    A run that goes on from its checkpoint ends with the same bits as one that was never broken off.
    Several processes count the same and find the same extrema as one; their means and variances are
    the same within the accuracy of the statistic (docs/statistics.md).

    Args:
        model: any module; its parts are chosen by `include` and `exclude` as in `fmstats.track`.
        data: an iterable of batches (see `fmstats.sources.batches` for their forms), a DataSource,
            the text or path that `fmstats.sources.open_data` takes (images are then normalised by
            ImageNet's mean and std), or a single tensor or array, which is one batch of samples
            along its first dim.
        include: the layers to observe, as in `fmstats.track`; None: every leaf module.
        exclude: the layers to leave out, as in `fmstats.track`.
        of: as in `fmstats.track`, like the next eight.
        every: one forward pass in so many.
        budget: a share of the forward time, instead of `every`.
        channel_dim: where the channels are.
        zero_tol: what counts as zero.
        backend: what measures.
        per_call: whether each call of a layer has a row.
        on_error: "raise" or "warn".
        saturation: bounds by selector.
        device: where to run; None: where the model is.
        dtype: what to run in; None: the model's own.
        channels_last: run 4-d weights and inputs in the channels_last memory format.
        compile: run the model under `torch.compile`.
        limit: stop after this many samples, unreadable images among them; the last batch is cut to
            fit. None: all.
        batch_dim: the dim of each batch's tensors along which samples run, where the data cannot
            tell: 0 for a lone tensor of stacked samples, 1 for time-major sequences. None: by the
            source of the data (images, arrays, a DataLoader), by the layers that have the batch in
            a place of their own (convolutions, recurrent layers, attention), or by the size that
            all entries of a batch share along dim 0; else `samples` is None.
        on_bad_sample: what to do with an image that cannot be read, or a batch on which reading or
            the model raises: "raise", or "skip" and tell of it in the metadata. A batch that is
            skipped leaves no trace in the statistics. A DataSource keeps its own rule for images.
        checkpoint: a file to keep the profile in while it grows. If the file is there, the run
            goes on where it was written: batches done are left out, without being read where any
            sample can be read without those before it (images, .npy, .npz, .safetensors). Any
            other iterable has to give the same batches in the same order again. A file of a
            finished run is returned without work.
        checkpoint_every: seconds between two of its versions.
        group: a process group of torch.distributed, or "world": every rank of it calls this with
            the same arguments, folds its share of the batches, and gets the profile of all of
            them. Each has a checkpoint of its own, with its rank in its name.
        progress: show a bar on stderr where rich is installed and stderr is a terminal: samples
            per second, and the share of the time that goes into statistics.

    Returns:
        The profile. Its metadata has `samples` (None: unknown) and `batches` folded; `started` and
        `ended` (UTC); `seconds`; `skipped`, what was left out and why for the first of
        `skipped_count`;
        `statistics_share`, of the seconds, by the host's clock and from some of the passes (None
        where something is compiled, or in too short a run); `coverage`, a list with the name, type,
        status and reason of each layer that was selected but has no statistics; `resumed` and
        `resumed_batches`, which a checkpoint had; `options`; `data`, a description, for a
        DataSource; `inputs`, the `image_size`, `resize`, `mean` and `std`, for images; with
        `group`, the number of `processes`.

    Raises:
        FmstatsError: the data has no batch or cannot be read, or the model refuses a batch. The
            message tells which batch and how many were folded before it, and the cause is kept.
            Or the checkpoint is of another model, of other data or options: the message tells what
            differs.
        RunInterrupted: a KeyboardInterrupt, upon Ctrl-C or SIGTERM, between two batches. The
            checkpoint has been written.
    """
    if not isinstance(model, torch.nn.Module):
        raise FmstatsError(f"model is of type {type(model).__name__}, not an nn.Module")
    if limit is not None:
        check_whole("limit", limit)
    if batch_dim is not None and (isinstance(batch_dim, bool) or not isinstance(batch_dim, int)):
        raise FmstatsError(f"batch_dim={batch_dim!r}: give the number of a dim, or None")
    if on_bad_sample not in ("raise", "skip"):
        raise FmstatsError(f"on_bad_sample {on_bad_sample!r} is neither 'raise' nor 'skip'")
    tracking: dict[str, Any] = {
        **{"include": include, "exclude": exclude, "of": of, "every": every, "budget": budget},
        **{"channel_dim": channel_dim, "zero_tol": zero_tol, "backend": backend},
        **{"per_call": per_call, "on_error": on_error, "saturation": saturation},
    }
    share = share_of(group)
    batches = open_batches(data, on_bad_sample)
    if not is_placed(model, device, dtype, channels_last):
        model = move_model(copy_model(model), device, dtype, channels_last)
    placement = Placement(*find_placement(model, device, dtype), channels_last)
    run = _Run(model, batches, limit, batch_dim, share, on_bad_sample, tracking, placement, compile)
    keep = None
    if checkpoint is not None:
        path = path_of(Path(checkpoint), share)
        keep = Checkpoint(path, checkpoint_every, run.identify())
    whole = merge_shards(run.go_on(keep, progress), group)
    if not whole.metadata["batches"]:
        raise FmstatsError(_nothing(whole.metadata["skipped"]))
    return whole


@dataclass(frozen=True)
class _Run:
    """What is to be run: see the arguments of `profile`, made into what they stand for."""

    model: torch.nn.Module
    batches: Iterable[object]
    limit: int | None
    batch_dim: int | None
    share: Share
    on_bad_sample: OnBadSample
    tracking: dict[str, Any]
    placement: Placement
    compiled: bool

    @property
    def options(self) -> dict[str, object]:
        """All that changes what is folded of each batch, and which."""
        run = {"compile": self.compiled, "limit": self.limit, "batch_dim": self.batch_dim}
        return {**self.tracking, **vars(self.placement), **run}

    def identify(self) -> Identity:
        """What tells this run from others."""
        refuse_random_order(self.batches, "checkpoint=")
        return {
            **describe_model(self.model),
            **describe_data(self.batches),
            **describe_options(self.options),
            "processes": self.share.ranks,
        }

    def go_on(self, keep: Checkpoint | None, progress: bool) -> Profile:
        """Run from where the checkpoint is, or from the beginning."""
        if self.share.ranks > 1:
            refuse_random_order(self.batches, "group=")
        if keep is not None and keep.base is not None and keep.progress.complete:
            return keep.base
        done = Progress() if keep is None else keep.progress
        tracker = track(self.model, **self.tracking)
        if keep is not None and keep.base is not None:
            tracker.restore(keep.base)
        with tracker, in_mode(self.model, training=False), Interrupts() as interrupts:
            cost = self._cost(done.passes)
            folder = Folder(
                self.model,
                torch.compile(self.model) if self.compiled else self.model,
                tracker,
                self.placement,
                cost,
                interrupts,
                passes=done.passes,
                every=self.tracking["every"],
            )
            part = Part(
                self.batches,
                self.limit,
                self.batch_dim,
                replace(self.share, first=done.next_batch),
                self.on_bad_sample,
                tracker=tracker,
                folder=folder,
                cost=cost,
                counting=self._counting(),
                checkpoint=keep,
                told=self._told(),
            )
            with self._show(keep, progress) as advance:
                return part.run(interrupts, advance)

    @property
    def _hookable(self) -> bool:
        """Whether hooks may come and go: they would have what is compiled compiled anew."""
        return not (self.compiled or has_compiled_parts(self.model))

    def _counting(self) -> Counting:
        return Counting(self.model if self._hookable else None, self.limit)

    def _cost(self, passes: int) -> Cost:
        options = self.tracking
        modules = (
            {} if not self._hookable else select(self.model, options["include"], options["exclude"])
        )
        return Cost(modules.values(), options["of"], options["every"], passes)

    def _told(self) -> dict[str, Any]:
        options = describe_options({**self.options, "on_bad_sample": self.on_bad_sample})
        told: dict[str, Any] = {"options": options}
        if isinstance(self.batches, DataSource):
            told["data"] = self.batches.description
            if self.batches.inputs is not None:
                told["inputs"] = dict(self.batches.inputs)
        return told

    def _show(self, keep: Checkpoint | None, wanted: bool) -> AbstractContextManager[Advance]:
        base = None if keep is None or keep.base is None else keep.base.metadata
        done = (0, 0) if base is None else (base["samples"] or 0, base["batches"])
        wanted = wanted and self.share.rank == 0
        return show_progress(self.batches, self.limit, wanted, ranks=self.share.ranks, done=done)


def _nothing(skipped: list[str]) -> str:
    if skipped:
        return f"every batch was left out, the first one because: {skipped[0]}"
    return "the data gave no batch: it is empty, or an iterator used up before"
