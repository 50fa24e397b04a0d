"""Run `fmstats merge`: merge several profile files into one."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fmstats.commands.app import app, keep_lines
from fmstats.commands.baselines import OnlyCommonOption, read_only_common
from fmstats.commands.completion import complete_profiles
from fmstats.output.files import refuse_repeated
from fmstats.output.tables import format_plural
from fmstats.output.terminal import print_blocks
from fmstats.profiles.metadata import count_profiles
from fmstats.profiles.summary import describe_metadata
from fmstats.storage import merge_files
from fmstats.storage.exports import check_output, write_profile


class Missing(str, Enum):
    """Says what to do with layers that not all profiles have."""

    refuse = "refuse"
    keep = "keep"
    drop = "drop"


@app.command(
    epilog=keep_lines(
        "Examples:",
        "fmstats merge shards/*.fmstats --out month.fmstats",
        "fmstats merge old.fmstats new.fmstats --missing drop --out both.fmstats",
    )
)
def merge(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES...",
            help="Profiles of the same model: .fmstats.",
            autocompletion=complete_profiles,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Write .fmstats, .json or .csv. It may be one of FILES."),
    ],
    missing: Annotated[
        Missing,
        typer.Option(
            help="Profiles of other layers or models: refuse to merge them, keep all layers, or "
            "drop those that one profile lacks or that do not fit.",
        ),
    ] = Missing.refuse,
    only_common: OnlyCommonOption = False,
) -> None:
    """Merge profiles of shards, days or machines.

    The result equals the profile of one run over all the data.
    """
    check_output(out)
    refuse_repeated(files, "its data would count twice; leave one out")
    merged = merge_files(files, missing=read_only_common(only_common, missing))
    write_profile(merged, out)
    print_blocks(
        f"{format_plural(count_profiles(merged.metadata), 'profile')}, "
        f"{format_plural(len(merged), 'layer')}",
        describe_metadata(merged),
        f"Written to {out}",
    )
