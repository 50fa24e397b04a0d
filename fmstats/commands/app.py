"""Define the typer application, and the help texts and options that commands share."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import fmstats
from fmstats.commands.completion import (
    complete_backends,
    complete_models,
    complete_profiles,
    list_columns,
)
from fmstats.errors import FmstatsError
from fmstats.output.tables import Block, Column, Table
from fmstats.output.terminal import print_blocks, print_data
from fmstats.profiles.columns import choose_columns
from fmstats.profiles.measured import MEASURED
from fmstats.profiles.profile import Profile
from fmstats.profiles.scalars import ROW
from fmstats.profiles.summary import count_elements, describe_run
from fmstats.sources import load_model, load_weights
from fmstats.storage.exports import format_csv, format_json
from fmstats.tracking.options import describe_option

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def keep_lines(title: str, *lines: str) -> str:
    """Mark a help text with a leading backspace, so that it keeps its line breaks."""
    return "\n  ".join(["\b\n" + title, *lines])


_EXAMPLES = keep_lines(
    "Examples:",
    "# a first look: a trained network, no data of your own",
    "fmstats demo",
    "# run your model over your data and save the profile",
    "fmstats profile net.py:make_net --data photos/ \\",
    "    --out run.fmstats",
    "# the layers with most zeros; then one row per block",
    "fmstats show run.fmstats --sort sparsity --top 10",
    "fmstats show run.fmstats --depth 1",
    "# what is wrong, and a check for CI",
    "fmstats diagnose run.fmstats",
    'fmstats diagnose run.fmstats --fail-on "dead>5%,nan>0"',
    "# what has changed, in the terminal and as a page",
    "fmstats compare run.fmstats old.fmstats",
    "fmstats report run.fmstats --baseline old.fmstats \\",
    "    -o report.html",
    "# all of that in one command, every night",
    "fmstats check net.py:make_net --data photos/ \\",
    "    --baseline old.fmstats --fail-on-drift --out new.fmstats",
    "# merge shards, machines or days into one profile",
    "fmstats merge mon.fmstats tue.fmstats --out week.fmstats",
)


class Dtype(str, Enum):
    """Lists the dtypes that a model can be asked to run in."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    float64 = "float64"

    @property
    def of_torch(self) -> torch.dtype:
        """Return the same dtype as torch names it."""
        dtype: torch.dtype = getattr(torch, self.value)
        return dtype


ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="net.py:make_net | package.module:Net | torchvision:NAME | timm:NAME | "
        "transformers:FAMILY | program.pt2. Models of libraries have random weights unless "
        "--weights is given.",
        autocompletion=complete_models,
    ),
]
ProfileArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A profile (.fmstats), written by --out or Profile.save.",
        autocompletion=complete_profiles,
    ),
]
BackendOption = Annotated[
    str, typer.Option(help=describe_option("backend"), autocompletion=complete_backends)
]
WeightsOption = Annotated[
    Path | None, typer.Option(help="File of trained weights: .pth, .pt or .safetensors.")
]
ImageSizeOption = Annotated[
    int, typer.Option(metavar="N", min=1, help="Side of the centre crop in pixels.")
]
ResizeOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Shorter side before the crop in pixels; default: 8/7 of --image-size."
    ),
]

# Which rows of a table are shown, and as what: the same for every command that has them.
DepthOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Pool layers whose names share their first N parts into one row."
    ),
]
TopOption = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Show only the first N rows; 0: no table.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
CsvOption = Annotated[
    bool, typer.Option("--csv", help="Print CSV and nothing else: one line per row of the table.")
]


def sort_option(columns: Sequence[Column]) -> Any:
    """Make the option --sort for a table of these columns."""
    return typer.Option(
        metavar="COLUMN",
        help="Sort by a column: largest first, names from A to Z; -COLUMN reverses the order. "
        "Default: the order of execution.",
        autocompletion=list_columns(columns),
    )


SortOption = Annotated[str | None, sort_option(choose_columns(MEASURED))]


def refuse_both_formats(as_json: bool, as_csv: bool) -> None:
    """Refuse --json and --csv together.

    Raises:
        FmstatsError: both are given.
    """
    if as_json and as_csv:
        raise FmstatsError("--json and --csv exclude each other: give one of them")


def print_profile(
    profile: Profile,
    table: Table,
    title: Sequence[str],
    *,
    as_json: bool,
    as_csv: bool,
    beside: Sequence[Block] = (),
    findings: bool = True,
) -> None:
    """Print a profile with these of its layers, below a title of some lines.

    Args:
        profile: of which the findings are.
        table: of its layers.
        title: the lines.
        as_json: print JSON instead.
        as_csv: print CSV instead.
        beside: what follows the table, where it is printed as one.
        findings: whether the profile is judged, too.
    """
    if as_csv:
        known = table.rows[0] if table.rows else {}
        print_data(format_csv(table.rows, (*ROW, *(n for n in MEASURED if n in known))))
    elif as_json:
        content: dict[str, object] = {"metadata": profile.metadata, "layers": table.rows}
        if findings:
            content["findings"] = profile.diagnose().to_dict()["findings"]
        groups = count_elements(profile)
        print_data(format_json({**content, "groups": groups} if groups else content))
    else:
        blocks = describe_run(profile, table, title, beside, findings=findings)
        print_blocks(*blocks, elsewhere="--json, --csv")


def load_network(model: str, weights: Path | None) -> torch.nn.Module:
    """Load the module that MODEL and --weights name."""
    network = load_model(model)
    if weights is not None:
        load_weights(network, weights)
    return network


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fmstats {fmstats.__version__}")
        raise typer.Exit


@app.callback(epilog=_EXAMPLES)
def describe(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Exact per-channel statistics of every feature map of a PyTorch model."""
