"""The commands, their options and their help, each help with examples to copy.

Only `fmstats.cli` imports this module, since it needs typer.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer

import fmstats
from fmstats.backends import list_backends
from fmstats.demo import run_demo
from fmstats.errors import FmstatsError
from fmstats.outputs import check_output, describe_run, write_profile
from fmstats.runs import profile as run_profile
from fmstats.sources import load_model, load_weights, open_data
from fmstats.sources.placement import move_model
from fmstats.tables import format_table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show(title: str, *lines: str) -> str:
    """Help text that keeps its line breaks, for which a backspace has to stand at its head."""
    return "\n  ".join(["\b\n" + title, *lines])


_PROFILE_EXAMPLES = "\n\n".join(
    [
        _show(
            "Examples:",
            "fmstats profile net.py:make_net --weights net.pth --data photos/",
            "fmstats profile torchvision:resnet50 --weights r50.pth --data val/ --device cuda",
            "fmstats profile nets:Net --data x.npy --include 'blocks.*' --exclude '*.drop'",
            "fmstats profile net.pt2 --data loader.py:make_loader --limit 5000 --out profile.json",
        ),
        _show(
            "A function given as MODEL or DATA is called without arguments:",
            "def make_loader():  # in loader.py",
            "    return DataLoader(dataset, batch_size=64)  # (x, labels): the labels are dropped",
        ),
    ]
)


class Dtype(str, Enum):
    """The dtypes that a model can be asked to run in."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    float64 = "float64"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fmstats {fmstats.__version__}")
        raise typer.Exit


@app.callback()
def describe(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Exact per-channel statistics of every feature map of a PyTorch model."""


@app.command(
    epilog=_show("Examples:", "fmstats demo", "fmstats demo --crops 0 --backend reference")
)
def demo(
    crops: Annotated[
        int, typer.Option(metavar="N", min=0, help="Random crops of each photograph.")
    ] = 8,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Images per forward pass.")
    ] = 16,
    backend: Annotated[str, typer.Option(help="See 'fmstats backends'.")] = "auto",
) -> None:
    """Profile a trained network on photographs, without any download."""
    run_demo(typer.echo, crops=crops, batch_size=batch_size, backend=backend)


@app.command(epilog=_show("Examples:", "fmstats backends"))
def backends() -> None:
    """List what can compute the statistics, and what cannot and why."""
    rows = [
        (row.name, "yes" if row.usable else "no", row.devices, row.detail)
        for row in list_backends()
    ]
    typer.echo(format_table(("name", "usable", "devices", "detail"), rows, left=4))


@app.command(epilog=_PROFILE_EXAMPLES)
def profile(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="net.py:make_net | package.module:Net | torchvision:NAME | timm:NAME | "
            "transformers:FAMILY | program.pt2. Library models have random weights: see --weights.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="A folder of images | x.npy | x.npz[:KEY] | x.safetensors[:KEY] | "
            "loader.py:make_batches | package.module:make_batches.",
        ),
    ],
    weights: Annotated[
        Path | None, typer.Option(help="Trained weights: .pth, .pt or .safetensors.")
    ] = None,
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
    image_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Side of the centre crop, pixels.")
    ] = 224,
    resize: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Shorter side before the crop, pixels; default: 8/7 of --image-size."
        ),
    ] = None,
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
    network = load_model(model)
    if weights is not None:
        load_weights(network, weights)
    torch_dtype = None if dtype is None else getattr(torch, dtype.value)
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
