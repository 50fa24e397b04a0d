"""Define the options of commands that run a model over data, and carry out such a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from fmstats.commands.app import (
    Dtype,
    ImageSizeOption,
    ModelArgument,
    ResizeOption,
    WeightsOption,
    load_network,
)
from fmstats.commands.normalising import (
    MeanOption,
    NoNormalizeOption,
    StdOption,
    choose_normalisation,
    refuse_without_images,
)
from fmstats.commands.resuming import Resume, describe_interrupted
from fmstats.commands.tracking import TrackingOptions
from fmstats.runs import RunInterrupted
from fmstats.runs.shards import join_launched
from fmstats.sources import DataSource, open_data
from fmstats.sources.images import IMAGENET_MEAN, IMAGENET_STD
from fmstats.sources.placement import move_model

INTERRUPTED = 130  # the exit code, as a shell tells of programs that Ctrl-C ends

_OUT_HELP = "Write the profile: .fmstats, .json or .csv (one row per channel)."
OutOption = Annotated[Path | None, typer.Option(metavar="FILE", help=_OUT_HELP)]


class OnBadSample(str, Enum):
    """Says what to do with a sample that cannot be used."""

    fatal = "raise"
    skip = "skip"


@dataclass(frozen=True)
class RunOptions:
    """Holds what a command line says of a run, apart from what is measured in it."""

    model: ModelArgument
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="A folder of images | x.npy | x.npz[:KEY] | x.safetensors[:KEY] | "
            "loader.py:make_batches | package.module:make_batches. Images are read as RGB, "
            "resized, cut to the centre, and normalised by ImageNet's mean and std by default.",
        ),
    ]
    weights: WeightsOption = None
    batch_size: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Samples per batch; batches made in Python keep their size."
        ),
    ] = 32
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Stop after this many samples; default: all."),
    ] = None
    batch_dim: Annotated[
        int | None,
        typer.Option(
            metavar="DIM",
            help="The dim of batches made in Python along which samples are stacked.",
        ),
    ] = None
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps, ...; default: the device of MODEL.")
    ] = None
    dtype: Annotated[
        Dtype | None, typer.Option(help="Run in this dtype; default: that of MODEL.")
    ] = None
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Run in the channels_last memory format.")
    ] = False
    compiled: Annotated[
        bool, typer.Option("--compile", help="Run the model under torch.compile.")
    ] = False
    image_size: ImageSizeOption = 224
    resize: ResizeOption = None
    mean: MeanOption = None
    std: StdOption = None
    no_normalize: NoNormalizeOption = False
    on_bad_sample: Annotated[
        OnBadSample,
        typer.Option(
            help="What to do with an image that cannot be read or a batch that raises: stop with "
            "the error, or leave it out and report it."
        ),
    ] = OnBadSample.fatal
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Save the run in FILE as it goes; the same command resumes it."
        ),
    ] = None
    resume: Annotated[
        Resume,
        typer.Option(
            help="What to do if --checkpoint FILE exists: resume if weights, code, data and "
            "versions are the same, or trust that it belongs to this run.",
        ),
    ] = Resume.auto
    checkpoint_every: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.0, help="Time between writes of the checkpoint."),
    ] = 60.0
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="Show no progress bar on stderr.")
    ] = False

    def open_source(self) -> DataSource:
        """Open DATA.

        Raises:
            FmstatsError: it cannot be read, or its images cannot be prepared as asked.
        """
        asked = choose_normalisation(self.mean, self.std, self.no_normalize)
        means, stds = (IMAGENET_MEAN, IMAGENET_STD) if asked is None else asked
        source = open_data(
            self.data,
            batch_size=self.batch_size,
            image_size=self.image_size,
            resize=self.resize,
            mean=means,
            std=stds,
            on_bad_sample=self.on_bad_sample.value,
        )
        if asked is not None:
            refuse_without_images(source, self.data)
        return source

    def load_model(self, device: str | None) -> torch.nn.Module:
        """Load MODEL with its weights, where and as it is to run."""
        # In place: nobody else uses this model, so profile() need not copy it.
        network = load_network(self.model, self.weights)
        return move_model(network, device, self._dtype, self.channels_last)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments for `fmstats.profile`, without model and data."""
        return {
            "device": self.device,
            "dtype": self._dtype,
            "channels_last": self.channels_last,
            "compile": self.compiled,
            "limit": self.limit,
            "batch_dim": self.batch_dim,
            "on_bad_sample": self.on_bad_sample.value,
            "checkpoint": self.checkpoint,
            "checkpoint_every": self.checkpoint_every,
            "resume": self.resume.value,
            "progress": not self.no_progress,
        }

    @property
    def _dtype(self) -> torch.dtype | None:
        return None if self.dtype is None else self.dtype.of_torch


@dataclass(frozen=True)
class Launch:
    """Holds what a run needs in this process.

    Attributes:
        model: where it is to run.
        source: the data.
        arguments: all others of `fmstats.profile`.
        speaks: whether this is the process that prints and writes, rank 0 of several.
    """

    model: torch.nn.Module
    source: DataSource
    arguments: dict[str, Any]
    speaks: bool


@contextlib.contextmanager
def launched(run: RunOptions, tracking: TrackingOptions, out: Path | None) -> Iterator[Launch]:
    """Open the data, join the processes that torchrun has started, and load the model.

    An interrupted run ends the command: see `describe_interrupted`, which may write to `out`.

    Raises:
        FmstatsError: an option, the data or the model is refused.
    """
    arguments = {**run.arguments(), **tracking.arguments()}
    source = run.open_source()
    with join_launched(run.device) as (share, device):
        group = "world" if share.ranks > 1 else None
        arguments |= {"device": device, "group": group}
        try:
            yield Launch(run.load_model(device), source, arguments, share.rank == 0)
        except RunInterrupted as stop:
            if share.rank == 0:
                describe_interrupted(stop, out if group is None else None)
            raise typer.Exit(INTERRUPTED) from stop
