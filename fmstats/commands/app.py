"""The typer application, and what several commands share: help texts and options."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer

import fmstats
from fmstats.sources import load_model, load_weights

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def keep_lines(title: str, *lines: str) -> str:
    """Help text that keeps its line breaks, for which a backspace has to stand at its head."""
    return "\n  ".join(["\b\n" + title, *lines])


class Dtype(str, Enum):
    """The dtypes that a model can be asked to run in."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    float64 = "float64"

    @property
    def of_torch(self) -> torch.dtype:
        """The same dtype as torch names it."""
        dtype: torch.dtype = getattr(torch, self.value)
        return dtype


ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="net.py:make_net | package.module:Net | torchvision:NAME | timm:NAME | "
        "transformers:FAMILY | program.pt2. Library models have random weights: see --weights.",
    ),
]
WeightsOption = Annotated[
    Path | None, typer.Option(help="Trained weights: .pth, .pt or .safetensors.")
]
ImageSizeOption = Annotated[
    int, typer.Option(metavar="N", min=1, help="Side of the centre crop, pixels.")
]
ResizeOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Shorter side before the crop, pixels; default: 8/7 of --image-size."
    ),
]


def load_network(model: str, weights: Path | None) -> torch.nn.Module:
    """The module that MODEL and --weights name."""
    network = load_model(model)
    if weights is not None:
        load_weights(network, weights)
    return network


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
