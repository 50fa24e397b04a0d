"""`fmstats profile`: what a data set does to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fmstats.commands.app import (
    Dtype,
    ImageSizeOption,
    ModelArgument,
    ResizeOption,
    WeightsOption,
    app,
    keep_lines,
    load_network,
)
from fmstats.errors import FmstatsError
from fmstats.outputs import check_output, describe_run, write_profile
from fmstats.runs import profile as run_profile
from fmstats.sources import open_data
from fmstats.sources.placement import move_model

_EXAMPLES = "\n\n".join(
    [
        keep_lines(
            "Examples:",
            "fmstats profile net.py:make_net --weights net.pth --data photos/",
            "fmstats profile torchvision:resnet50 --weights r50.pth --data val/ --device cuda",
            "fmstats profile nets:Net --data x.npy --include 'blocks.*' --exclude '*.drop'",
            "fmstats profile net.pt2 --data loader.py:make_loader --limit 5000 --out profile.json",
        ),
        keep_lines(
            "A function given as MODEL or DATA is called without arguments:",
            "def make_loader():  # in loader.py",
            "    return DataLoader(dataset, batch_size=64)  # (x, labels): the labels are dropped",
        ),
    ]
)


@app.command(epilog=_EXAMPLES)
def profile(
    model: ModelArgument,
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="A folder of images | x.npy | x.npz[:KEY] | x.safetensors[:KEY] | "
            "loader.py:make_batches | package.module:make_batches.",
        ),
    ],
    weights: WeightsOption = None,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Layers to observe, e.g. 'features.*'; may be repeated."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Layers to leave out; may be repeated."),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Samples per batch; batches made in Python keep their own."
        ),
    ] = 32,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Stop after this many samples; default: all."),
    ] = None,
    every: Annotated[
        int, typer.Option(metavar="N", min=1, help="Observe one batch in so many.")
    ] = 1,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps, ...; default: where MODEL is.")
    ] = None,
    dtype: Annotated[
        Dtype | None, typer.Option(help="Run in this dtype; default: that of MODEL.")
    ] = None,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Run in the channels_last memory format.")
    ] = False,
    channel_dim: Annotated[
        str, typer.Option(help="The channel dimension of all layers, e.g. 1; auto: by layer type.")
    ] = "auto",
    backend: Annotated[str, typer.Option(help="See 'fmstats backends'.")] = "auto",
    zero_tol: Annotated[
        float, typer.Option(metavar="X", min=0.0, help="Values this close to 0 count as zeros.")
    ] = 0.0,
    image_size: ImageSizeOption = 224,
    resize: ResizeOption = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be read.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write .json (everything) or .csv (a row per channel)."),
    ] = None,
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="Show no progress bar on stderr.")
    ] = False,
) -> None:
    """Run MODEL over DATA once and show what its layers do.

    Prints a row per layer, what is wrong, and which layers were not measured.
    """
    if out is not None:
        check_output(out)  # Before the run: an hour of work must not end in a misspelt folder.
    source = open_data(
        data,
        batch_size=batch_size,
        image_size=image_size,
        resize=resize,
        limit=limit,
        on_bad_sample="skip" if skip_unreadable else "raise",
    )
    network = load_network(model, weights)
    torch_dtype = None if dtype is None else dtype.of_torch
    # In place: nobody else uses this model, so profile() need not copy it.
    network = move_model(network, device, torch_dtype, channels_last)
    result = run_profile(
        network,
        source,
        include=include or None,
        exclude=exclude or None,
        every=every,
        channel_dim=_read_channel_dim(channel_dim),
        zero_tol=zero_tol,
        backend=backend,
        device=device,
        dtype=torch_dtype,
        channels_last=channels_last,
        progress=not no_progress,
    )
    typer.echo(f"{model} on {source.description}")
    typer.echo(describe_run(result))
    if out is not None:
        write_profile(result, out)
        typer.echo(f"\nWritten to {out}")


def _read_channel_dim(text: str) -> int | str:
    try:
        return text if text == "auto" else int(text)
    except ValueError as error:
        raise FmstatsError(f"--channel-dim {text!r} is neither 'auto' nor a number") from error
