"""Run a model once over data, in one process or in several."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from fmstats.errors import FmstatsError, check_whole
from fmstats.models.saturation import Bounds
from fmstats.models.selection import Selection, Selector
from fmstats.profiles.coverage import describe_not_measured
from fmstats.profiles.metadata import read_rows
from fmstats.profiles.profile import Profile
from fmstats.runs.batch_runner import Placement
from fmstats.runs.checkpoints import Checkpoint
from fmstats.runs.reading import (
    OnBadSample,
    open_batches,
)
from fmstats.runs.run import Run
from fmstats.runs.shards import merge_shards, path_of, share_of
from fmstats.sources.placement import copy_model, find_placement, is_placed, move_model
from fmstats.tracking.arguments import Reader
from fmstats.tracking.options import TrackOptions


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
    on_error: str = "warn",
    functional: bool | str | Collection[str] = "auto",
    saturation: Mapping[Selector, Bounds] | None = None,
    mask: str | Reader | Mapping[Selector, str | Reader] | None = None,
    mask_mismatch: str = "skip",
    groups: str | Reader | None = None,
    group_names: Sequence[str] | Mapping[int, str] | None = None,
    max_groups: int = 64,
    measure: str | Collection[str] | None = None,
    histogram: str = "layer",
    resolution: int = 4,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    channels_last: bool = False,
    compile: bool = False,
    limit: int | None = None,
    batch_dim: int | None = None,
    on_bad_sample: OnBadSample = "raise",
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    resume: Literal["auto", "trust"] = "auto",
    group: object = None,
    progress: bool = True,
) -> Profile:
    """Run `model` over `data` once, in evaluation mode and under `torch.no_grad`.

    Batches are moved to the device and, where floating, to the dtype of the model's first floating
    parameter (or buffer). Where `device`, `dtype` or `channels_last` asks for another, a copy of
    the model runs and `model` stays where it is.

    A run that goes on from its checkpoint ends with the same bits as one that was never broken off,
    but for the rounding of means and variances where there are groups.
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
        functional: rows for operations that are no modules, as `F.relu(x)`: "auto", True, False, or
            names of operations or rows (see docs/options.md).
        on_error: "warn" or "raise", where a layer cannot be measured as asked.
        saturation: bounds by selector.
        mask: which positions of the inputs count, as in `fmstats.track`, like the next four.
        mask_mismatch: what to do with tensors that the mask does not fit.
        groups: whose statistics to keep apart.
        group_names: what the groups are called.
        max_groups: how many there may be.
        measure: as of `track`, with `histogram` and `resolution`.
        histogram: of each "layer" or "channel".
        resolution: of its bins.
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
            other iterable has to give the same batches in the same order again, and is compared.
            A file of a finished run is returned without a forward pass. The file answers for one
            run alone: for these values of all parameters and buffers, this code and these settings
            of all modules, these data by content, these options and versions.
        checkpoint_every: seconds between two of its versions.
        resume: what to do with a checkpoint that is there: "auto", go on where all of that is the
            same; or "trust", go on although weights, code, data or versions differ, or hold what
            cannot be compared. Options have to be the same.
        group: a process group of torch.distributed, or "world": every rank of it calls this with
            the same arguments, measures its share of the batches, and gets the profile of all of
            them. Each has a checkpoint of its own, with its rank in its name.
        progress: show a bar on stderr where rich is installed and stderr is a terminal: samples
            per second, and the share of the time that goes into statistics.

    Returns:
        The profile. Its metadata has `samples` (None: unknown) and `batches` measured; `started`
        and `ended` (UTC); `seconds`; `skipped`, what was left out and why for the first of
        `skipped_count`;
        `statistics_share`, of the seconds, by the host's clock and from some of the passes (None
        where something is compiled, or in too short a run); `coverage`, a list with the name, type,
        status and reason of each layer that was selected but has no statistics; `resumed` and
        `resumed_batches`, which a checkpoint had; `options`; `data`, a description, for a
        DataSource; `inputs`, the `image_size`, `resize`, `mean` and `std`, for images; with
        `group`, the number of `processes`.

    Raises:
        FmstatsError: the data has no batch or cannot be read, or the model refuses a batch. The
            message tells which batch and how many were measured before it, and the cause is kept.
            Or the checkpoint is of another model, of other data or options, or nothing tells: the
            message says what differs and what to choose from.
        RunInterrupted: a KeyboardInterrupt, upon Ctrl-C or SIGTERM, between two batches. The
            checkpoint has been written.

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.ReLU())
        >>> x = torch.tensor([[-1.0, 2.0], [-3.0, 4.0]])
        >>> profile = fmstats.profile(model, x, progress=False)
        >>> profile["0"].mean.tolist(), profile.metadata["samples"]
        ([0.0, 3.0], 2)
    """
    if not isinstance(model, torch.nn.Module):
        raise FmstatsError(f"model is of type {type(model).__name__}, not an nn.Module")
    if limit is not None:
        check_whole("limit", limit)
    if batch_dim is not None and (isinstance(batch_dim, bool) or not isinstance(batch_dim, int)):
        raise FmstatsError(f"batch_dim={batch_dim!r}: give the number of a dim, or None")
    if on_bad_sample not in ("raise", "skip"):
        raise FmstatsError(f"on_bad_sample {on_bad_sample!r} is neither 'raise' nor 'skip'")
    if resume not in ("auto", "trust"):
        raise FmstatsError(f"resume={resume!r}: choose 'auto' or 'trust'")
    tracking = TrackOptions(
        include=include,
        exclude=exclude,
        of=of,
        every=every,
        budget=budget,
        channel_dim=channel_dim,
        zero_tol=zero_tol,
        backend=backend,
        per_call=per_call,
        on_error=on_error,
        functional=functional,
        saturation=saturation,
        mask=mask,
        mask_mismatch=mask_mismatch,
        groups=groups,
        group_names=group_names,
        max_groups=max_groups,
        measure=measure,
        histogram=histogram,
        resolution=resolution,
    )
    share = share_of(group)
    batches = open_batches(data, on_bad_sample)
    if not is_placed(model, device, dtype, channels_last):
        model = move_model(copy_model(model), device, dtype, channels_last)
    placement = Placement(*find_placement(model, device, dtype), channels_last)
    run = Run(model, batches, limit, batch_dim, share, on_bad_sample, tracking, placement, compile)
    keep = None
    if checkpoint is not None:
        path = path_of(Path(checkpoint), share)
        trusted = resume == "trust"
        keep = Checkpoint(path, checkpoint_every, run.identify(), trusted=trusted)
    whole = merge_shards(run.go_on(keep, progress), group)
    if not whole.metadata["batches"]:
        raise FmstatsError(_nothing(whole.metadata["skipped"]))
    missing = read_rows(whole.metadata, "coverage")
    if missing and share.rank == 0:
        print(f"fmstats: {describe_not_measured(missing)}", file=sys.stderr)
    return whole


def _nothing(skipped: list[str]) -> str:
    if skipped:
        return f"every batch was left out, the first one because: {skipped[0]}"
    return "the data gave no batch: they are empty, or an iterator that was used up before"
