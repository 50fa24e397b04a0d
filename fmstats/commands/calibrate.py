"""Run `fmstats calibrate`: make scales for 8-bit codes of a profile file."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fmstats.calibration import METHODS, SCHEMES
from fmstats.calibration.calibrate import DEFAULT_Q
from fmstats.calibration.files import SUFFIXES, check_output
from fmstats.calibration.qparams import COLUMNS
from fmstats.commands.app import JsonOption, ProfileArgument, app, keep_lines
from fmstats.commands.completion import complete_methods, complete_schemes
from fmstats.commands.groups import GroupOption, load_group, name_group
from fmstats.output.tables import Table, format_plural
from fmstats.output.terminal import print_blocks, print_data
from fmstats.storage.exports import format_json

_EXAMPLES = "\n\n".join(
    [
        keep_lines(
            "Examples:",
            "fmstats profile net.py:net --data photos/ --measure histogram \\",
            "    --out run.fmstats",
            "fmstats calibrate run.fmstats",
            "fmstats calibrate run.fmstats --scheme uint8 --method mse \\",
            "    --out scales.safetensors",
            "fmstats calibrate run.fmstats --method percentile --q 0.999",
            "fmstats calibrate run.fmstats --layer 'features.*' --json",
        ),
        keep_lines("Schemes:", *(f"{name:<12} {scheme.about}" for name, scheme in SCHEMES.items())),
        keep_lines(
            "Methods:",
            *(f"{name:<12} {method.about}" for name, method in METHODS.items()),
            "All but absmax need a profile with --measure histogram,",
            "and for --per channel with --histogram channel.",
        ),
        "Exit codes: 0: done. 2: wrong usage, FILE cannot be read, or has no histograms. See "
        "docs/calibration.md.",
    ]
)


class Per(str, Enum):
    """Lists what can have a scale of its own."""

    tensor = "tensor"
    channel = "channel"


@app.command(epilog=_EXAMPLES)
def calibrate(
    file: ProfileArgument,
    scheme: Annotated[
        str,
        typer.Option(
            help=f"What codes are: {', '.join(SCHEMES)}.", autocompletion=complete_schemes
        ),
    ] = "int8",
    method: Annotated[
        str,
        typer.Option(
            help=f"How their range is chosen: {', '.join(METHODS)}.",
            autocompletion=complete_methods,
        ),
    ] = "mse",
    per: Annotated[
        Per, typer.Option(help="Make a scale of each layer, or of each channel.")
    ] = Per.tensor,
    q: Annotated[
        float | None,
        typer.Option(
            "--q",
            metavar="SHARE",
            help=f"Share of numbers that --method percentile keeps; default: {DEFAULT_Q}.",
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Take only layers whose names match; may be repeated."),
    ] = None,
    group: GroupOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"Write the scales to a file: {' or '.join(SUFFIXES)}."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make scales for 8-bit codes of the activations in a profile file.

    Prints a row per layer: its scale and zero point, what they cover, what is clipped, and how much
    larger than the expected error the numbers are.
    """
    if out is not None:
        check_output(out)
    profile = load_group(file, group)
    found = profile.qparams(scheme, method, per=per.value, q=q, layers=layer or None)
    if out is not None:
        found.save(out)
    if as_json:
        print_data(format_json(found.to_dict()))
        return
    settings = ", ".join(f"{name} {value}" for name, value in found.settings.items())
    print_blocks(
        f"{name_group(file, group)}: {format_plural(len(found), 'layer')}, {settings}",
        "",
        Table(COLUMNS, found.rows()),
        *found.list_neutral(),
        *([] if out is None else ["", f"Written to {out}"]),
        elsewhere="--json",
    )
