"""`fmstats merge`: one profile of what several files have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fmstats.commands.app import app, keep_lines
from fmstats.metadata import count_profiles
from fmstats.outputs import check_output, describe_metadata, write_profile
from fmstats.storage import merge_files


@app.command(
    epilog=keep_lines(
        "Examples:",
        "fmstats merge shards/*.fmstats --out month.fmstats",
        "fmstats merge old.fmstats new.fmstats --only-common --out both.fmstats",
    )
)
def merge(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES...", help="Profiles of the same model: .fmstats")
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Write .fmstats, .json or .csv. It may be one of FILES."),
    ],
    only_common: Annotated[
        bool,
        typer.Option(
            "--only-common",
            help="Merge the layers that all of them have and that fit, and leave out the others; "
            "without it, profiles of other models, layers or options are refused.",
        ),
    ] = False,
) -> None:
    """Merge profiles of other data, shards, machines or days into one.

    The result is that of one run over all the data.
    """
    check_output(out)
    merged = merge_files(files, missing="drop" if only_common else "refuse")
    write_profile(merged, out)
    typer.echo(f"{count_profiles(merged.metadata)} profiles, {len(merged)} layers")
    typer.echo(describe_metadata(merged))
    typer.echo(f"Written to {out}")
