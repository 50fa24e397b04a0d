"""Run `fmstats show`: print the content of a profile file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fmstats.commands.app import (
    CsvOption,
    DepthOption,
    JsonOption,
    ProfileArgument,
    SortOption,
    TopOption,
    app,
    keep_lines,
    print_profile,
    refuse_both_formats,
)
from fmstats.commands.groups import GroupOption, load_group, name_group
from fmstats.errors import FmstatsError
from fmstats.histories import History, is_history
from fmstats.histories.history import NonFinite
from fmstats.histories.over_time import draw_over_time, list_numbers
from fmstats.output.tables import Block, Table, format_plural
from fmstats.output.terminal import can_print, print_blocks, print_data
from fmstats.profiles.columns import LAYER_COLUMNS
from fmstats.profiles.measured import MEASURED
from fmstats.profiles.metadata import name_model
from fmstats.profiles.strips import BLOCKS, PLAIN_BLOCKS, draw_strips
from fmstats.profiles.summary import choose_layers, choose_rows, describe_order
from fmstats.storage.exports import format_csv, format_json

_EXAMPLES = "\n\n".join(
    [
        keep_lines(
            "Examples:",
            "fmstats show run.fmstats",
            "fmstats show run.fmstats --sort sparsity --top 10",
            "fmstats show run.fmstats --depth 2 --sort -mean",
            "fmstats show run.fmstats --layer 'features.18.*' --layer classifier",
            "fmstats show run.fmstats --sort nan+inf --top 3 --json",
            "fmstats show run.fmstats --depth 1 --csv > blocks.csv",
            "fmstats show run.fmstats --group positive",
            "fmstats show run.fmstats --histograms --layer 'layer4.*'",
            "fmstats show training/ --over-time --stat max",
        ),
        f"COLUMN is {', '.join(column.title for column in LAYER_COLUMNS)}. spread is the standard "
        "deviation of the channels' means; dead counts channels of more than 99 % zeros, those "
        "that were never active included. Where they were measured there are also "
        f"{', '.join(MEASURED)}: pN is the number below which N % of the elements lie.",
        "--layer chooses rows of the profile, then --depth pools them, --sort sorts them and --top "
        "cuts the list. JSON and CSV have the same rows as the table; findings are always those of "
        "the whole profile. A narrow terminal shows fewer columns; a pipe or a file gets all of "
        "them.",
        "fmstats export writes every number of every channel; fmstats rank puts channels in order.",
    ]
)


@app.command(epilog=_EXAMPLES)
def show(
    file: ProfileArgument,
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Show only layers whose names match; may be repeated."),
    ] = None,
    depth: DepthOption = None,
    sort: SortOption = None,
    top: TopOption = None,
    group: GroupOption = None,
    histograms: Annotated[
        bool,
        typer.Option("--histograms", help="Draw the histogram of each layer, where measured."),
    ] = False,
    over_time: Annotated[
        bool,
        typer.Option(
            "--over-time", help="FILE is the folder of a history: show a number over its steps."
        ),
    ] = False,
    stat: Annotated[
        str,
        typer.Option(metavar="NAME", help="Which number --over-time shows, such as std or max."),
    ] = "std",
    no_findings: Annotated[
        bool, typer.Option("--no-findings", help="Show the numbers alone, and judge nothing.")
    ] = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show what is in a profile file.

    Prints what was run, one row per layer, and what is wrong.
    """
    refuse_both_formats(as_json, as_csv)
    if histograms and (as_json or as_csv):
        raise FmstatsError("--histograms draws beside the table: leave out --json and --csv")
    if over_time or is_history(file):
        _show_over_time(file, stat, layer or (), top, as_json=as_json, as_csv=as_csv)
        return
    profile = load_group(file, group)
    table = choose_layers(profile, layers=layer or (), depth=depth, sort=sort, top=top)
    channels = sum(stats.channels for stats in profile.values())
    sizes = format_plural(len(profile), "layer"), format_plural(channels, "channel")
    title = f"{name_group(file, group)}: {sizes[0]} of {name_model(profile.metadata)}, {sizes[1]}"
    strips: list[Block] = []
    if histograms:
        rows = choose_rows(profile, layers=layer or (), depth=depth)
        shown = {row["layer"]: rows[row["layer"]] for row in table.rows}
        strips = draw_strips(shown, BLOCKS if can_print(BLOCKS) else PLAIN_BLOCKS)
    print_profile(
        profile,
        table,
        [title, describe_order(sort, top)],
        as_json=as_json,
        as_csv=as_csv,
        beside=strips,
        findings=not no_findings,
    )


def _show_over_time(
    folder: Path, stat: str, layers: Sequence[str], top: int | None, *, as_json: bool, as_csv: bool
) -> None:
    history = History(folder)
    if as_json or as_csv:
        steps = history.steps
        rows = list_numbers(history, stat, layers)[:top]
        if as_json:
            print_data(format_json({"stat": stat, "steps": steps, "layers": rows}))
        else:
            lines = [
                {"layer": row["layer"], "type": row["type"], "step": step, stat: value}
                for row in rows
                for step, value in zip(steps, row["values"], strict=True)
            ]
            print_data(format_csv(lines, ("layer", "type", "step", stat)))
        return
    blocks = BLOCKS if can_print(BLOCKS) else PLAIN_BLOCKS
    table, *notes = draw_over_time(history, stat, layers, blocks)
    if isinstance(table, Table):
        table = Table(table.columns, table.rows[:top])
    found = history.first_nonfinite()
    first = [] if found is None else [f"first NaN or infinity: {found.layer}, {_tell_step(found)}"]
    known = history.intervals
    title = (
        f"{folder}: {format_plural(len(known), 'entry').replace('entrys', 'entries')}, steps "
        f"{known[0].first:,} to {known[-1].last:,}"
    )
    print_blocks("\n".join([title, *first]), "", table, "", *notes, elsewhere="--json, --csv")


def _tell_step(found: NonFinite) -> str:
    return str(found.interval) if found.step is None else f"step {found.step:,}"
