"""Run `fmstats export`: write the numbers of all channels, or of all layers, for other programs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fmstats.commands.app import (
    CsvOption,
    DepthOption,
    JsonOption,
    ProfileArgument,
    app,
    keep_lines,
    refuse_both_formats,
)
from fmstats.commands.groups import GroupOption, load_group
from fmstats.errors import FmstatsError
from fmstats.output.terminal import print_blocks, print_data
from fmstats.profiles.summary import choose_rows
from fmstats.storage.frames import (
    FRAME_SUFFIXES,
    check_frame,
    format_table,
    make_frame,
    write_frame,
)

_EXAMPLES = "\n\n".join(
    [
        keep_lines(
            "Examples:",
            "fmstats export run.fmstats --out channels.csv",
            "fmstats export run.fmstats --out channels.parquet --stats mean,std,sparsity",
            "fmstats export run.fmstats --by layer --csv > layers.csv",
            "fmstats export run.fmstats --layer 'layer4.*' --json",
        ),
        "From Python: profile.to_pandas() has a row per channel, profile.layers() one per layer.",
    ]
)


class By(str, Enum):
    """Says what has a row."""

    channel = "channel"
    layer = "layer"


@app.command(epilog=_EXAMPLES)
def export(
    file: ProfileArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help=f"Write {', '.join(FRAME_SUFFIXES)}; default: print CSV."
        ),
    ] = None,
    by: Annotated[By, typer.Option(help="Write a row per channel, or one per layer.")] = By.channel,
    stats: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Write only these numbers; default: all."),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Write only layers whose names match; may be repeated."),
    ] = None,
    depth: DepthOption = None,
    group: GroupOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Write the numbers of a profile as a table for other programs.

    A row per channel has every field and derived number, a row per layer those of the layer table.
    """
    refuse_both_formats(as_json, as_csv)
    if out is not None and (as_json or as_csv):
        raise FmstatsError("--json and --csv print: leave them out, or leave out --out")
    if out is not None:
        check_frame(out)
    profile = choose_rows(load_group(file, group), layers=layer or (), depth=depth)
    names = None if stats is None else [name.strip() for name in stats.split(",")]
    frame = make_frame(profile, by.value, names)
    if out is None:
        print_data(format_table(frame, ".json" if as_json else ".csv"))
    else:
        write_frame(frame, out)
        print_blocks(f"Written to {out}: {len(frame):,} rows, {len(frame.columns)} columns")
