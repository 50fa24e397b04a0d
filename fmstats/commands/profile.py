"""Run `fmstats profile`: measure a model on a data set."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fmstats.commands.app import (
    BackendOption,
    CsvOption,
    DepthOption,
    Dtype,
    ImageSizeOption,
    JsonOption,
    ModelArgument,
    ResizeOption,
    SortOption,
    TopOption,
    WeightsOption,
    app,
    keep_lines,
    load_network,
    print_profile,
    refuse_both_formats,
)
from fmstats.commands.normalising import (
    MeanOption,
    NoNormalizeOption,
    StdOption,
    choose_normalisation,
    refuse_without_images,
)
from fmstats.commands.resuming import Resume, describe_interrupted, describe_resumed
from fmstats.commands.tracking import (
    ChannelDimOption,
    FunctionalOption,
    GroupNamesOption,
    GroupsOption,
    HistogramOption,
    MaskMismatch,
    MaskMismatchOption,
    MaskOption,
    MaxGroupsOption,
    MeasureOption,
    ResolutionOption,
    Scope,
    read_channel_dim,
    read_functional,
)
from fmstats.output.tables import find_column
from fmstats.output.terminal import print_blocks
from fmstats.profiles.columns import choose_columns
from fmstats.profiles.measured import name_measured
from fmstats.profiles.summary import choose_layers
from fmstats.runs import RunInterrupted
from fmstats.runs import profile as run_profile
from fmstats.runs.shards import join_launched
from fmstats.sources import open_data
from fmstats.sources.images import IMAGENET_MEAN, IMAGENET_STD
from fmstats.sources.placement import move_model
from fmstats.statistic.measures import Measures
from fmstats.storage.exports import check_output, write_profile
from fmstats.tracking.options import describe_option

_EXAMPLES = "\n\n".join(
    [
        keep_lines(
            "Examples:",
            "fmstats profile net.py:make_net --weights net.pth --data photos/",
            "fmstats profile torchvision:resnet50 --weights r50.pth --data val/ --device cuda",
            "fmstats profile net.py:make_net --data photos/ --mean 0.5 --std 0.5",
            "fmstats profile nets:Net --data x.npy --include 'blocks.*' --exclude '*.drop'",
            "fmstats profile net.pt2 --data loader.py:make_loader --limit 5000 --out profile.json",
            "fmstats profile nets:Net --data val/ --checkpoint run.fmstats --on-bad-sample skip",
            "fmstats profile nets:Net --data x.npy --depth 2 --sort sparsity --top 10",
            "fmstats profile transformers:bert --data loader.py:make_loader --mask auto",
            "torchrun --nproc-per-node 4 -m fmstats profile nets:Net --data val/ --device cuda",
        ),
        keep_lines(
            "A function given as MODEL or DATA is called without arguments:",
            "def make_loader():  # in loader.py",
            "    return DataLoader(dataset, batch_size=64)  # (x, labels): the labels are dropped",
        ),
    ]
)


class OnBadSample(str, Enum):
    """Says what to do with a sample that cannot be used."""

    fatal = "raise"
    skip = "skip"


@app.command(epilog=_EXAMPLES)
def profile(
    model: ModelArgument,
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="A folder of images | x.npy | x.npz[:KEY] | x.safetensors[:KEY] | "
            "loader.py:make_batches | package.module:make_batches. Images are read as RGB, "
            "resized, cut to the centre, and normalised by ImageNet's mean and std by default.",
        ),
    ],
    weights: WeightsOption = None,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help=f"{describe_option('include')} May be repeated."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help=f"{describe_option('exclude')} May be repeated."),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Samples per batch; batches made in Python keep their size."
        ),
    ] = 32,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Stop after this many samples; default: all."),
    ] = None,
    batch_dim: Annotated[
        int | None,
        typer.Option(
            metavar="DIM",
            help="The dim of batches made in Python along which samples are stacked.",
        ),
    ] = None,
    every: Annotated[int, typer.Option(metavar="N", min=1, help=describe_option("every"))] = 1,
    budget: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help=describe_option("budget")),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps, ...; default: the device of MODEL.")
    ] = None,
    dtype: Annotated[
        Dtype | None, typer.Option(help="Run in this dtype; default: that of MODEL.")
    ] = None,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Run in the channels_last memory format.")
    ] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Run the model under torch.compile.")
    ] = False,
    channel_dim: ChannelDimOption = "auto",
    functional: FunctionalOption = "auto",
    mask: MaskOption = None,
    mask_mismatch: MaskMismatchOption = MaskMismatch.leave_out,
    groups: GroupsOption = None,
    group_names: GroupNamesOption = None,
    max_groups: MaxGroupsOption = 64,
    measure: MeasureOption = None,
    histogram: HistogramOption = Scope.layer,
    resolution: ResolutionOption = 4,
    backend: BackendOption = "auto",
    zero_tol: Annotated[
        float, typer.Option(metavar="X", min=0.0, help=describe_option("zero_tol"))
    ] = 0.0,
    image_size: ImageSizeOption = 224,
    resize: ResizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    no_normalize: NoNormalizeOption = False,
    on_bad_sample: Annotated[
        OnBadSample,
        typer.Option(
            help="What to do with an image that cannot be read or a batch that raises: stop with "
            "the error, or leave it out and report it."
        ),
    ] = OnBadSample.fatal,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Save the run in FILE as it goes; the same command resumes it."
        ),
    ] = None,
    resume: Annotated[
        Resume,
        typer.Option(
            help="What to do if --checkpoint FILE exists: resume if weights, code, data and "
            "versions are the same, or trust that it belongs to this run.",
        ),
    ] = Resume.auto,
    checkpoint_every: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.0, help="Time between writes of the checkpoint."),
    ] = 60.0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the profile: .fmstats, .json or .csv (one row per channel).",
        ),
    ] = None,
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="Show no progress bar on stderr.")
    ] = False,
    depth: DepthOption = None,
    sort: SortOption = None,
    top: TopOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Run MODEL over DATA and measure its layers.

    Prints one row per layer, what is wrong, and which layers were not measured. Exit codes: 0:
    done. 2: the request or the data is wrong. 130: interrupted.
    """
    # Before the run: an hour of work must not end in a misspelt folder or column.
    refuse_both_formats(as_json, as_csv)
    if sort is not None:
        measures = Measures.of([choice.value for choice in measure or ()])
        find_column(choose_columns(name_measured([measures])), sort.removeprefix("-"))
    if out is not None:
        check_output(out)
    asked = choose_normalisation(mean, std, no_normalize)
    means, stds = (IMAGENET_MEAN, IMAGENET_STD) if asked is None else asked
    source = open_data(
        data,
        batch_size=batch_size,
        image_size=image_size,
        resize=resize,
        mean=means,
        std=stds,
        on_bad_sample=on_bad_sample.value,
    )
    if asked is not None:
        refuse_without_images(source, data)
    torch_dtype = None if dtype is None else dtype.of_torch
    with join_launched(device) as (share, device):
        group = "world" if share.ranks > 1 else None
        # In place: nobody else uses this model, so profile() need not copy it.
        network = move_model(load_network(model, weights), device, torch_dtype, channels_last)
        try:
            result = run_profile(
                network,
                source,
                include=include or None,
                exclude=exclude or None,
                every=every,
                budget=budget,
                channel_dim=read_channel_dim(channel_dim),
                functional=read_functional(functional),
                mask=mask,
                mask_mismatch=mask_mismatch.value,
                groups=groups,
                group_names=group_names or None,
                max_groups=max_groups,
                measure=[choice.value for choice in measure or ()] or None,
                histogram=histogram.value,
                resolution=resolution,
                zero_tol=zero_tol,
                backend=backend,
                device=device,
                dtype=torch_dtype,
                channels_last=channels_last,
                compile=compiled,
                limit=limit,
                batch_dim=batch_dim,
                on_bad_sample=on_bad_sample.value,
                checkpoint=checkpoint,
                checkpoint_every=checkpoint_every,
                resume=resume.value,
                group=group,
                progress=not no_progress,
            )
        except RunInterrupted as stop:
            if share.rank == 0:
                describe_interrupted(stop, out if group is None else None)
            raise typer.Exit(130) from stop
        if share.rank == 0:
            if out is not None:  # First: a pipe that breaks must not cost the result.
                write_profile(result, out)
            table = choose_layers(result, depth=depth, sort=sort, top=top)
            title = [
                f"{model} on {source.description}",
                *describe_resumed(result, checkpoint, resume),
            ]
            print_profile(result, table, title, as_json=as_json, as_csv=as_csv)
            if out is not None and not (as_json or as_csv):
                print_blocks("", f"Written to {out}")
