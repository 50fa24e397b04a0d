"""Run `fmstats rank`: put the channels of all layers in one order."""

from __future__ import annotations

from typing import Annotated

import typer

from fmstats.commands.app import (
    CsvOption,
    JsonOption,
    ProfileArgument,
    app,
    keep_lines,
    refuse_both_formats,
)
from fmstats.commands.groups import GroupOption, load_group, name_group
from fmstats.errors import FmstatsError
from fmstats.output.tables import Column, Table, format_number, format_share
from fmstats.output.terminal import print_blocks, print_data
from fmstats.profiles.ranking import BESIDE
from fmstats.storage.exports import format_csv, format_json

_TOP = 20  # rows, where nothing else is asked for
_SHARES = ("sparsity", "saturated")  # are shown in percent

_EXAMPLES = "\n\n".join(
    [
        keep_lines(
            "Examples:",
            "fmstats rank run.fmstats",
            "fmstats rank run.fmstats --by abs_max --top 50",
            "fmstats rank run.fmstats --by std --ascending --type 'Conv*'",
            "fmstats rank run.fmstats --share 10% --layer 'features.*' --csv > prune.csv",
        ),
        "COLUMN is any number that `fmstats export` writes of a channel, such as sparsity, mean, "
        "std, min, max, rms, abs_max, saturated, nan, dead, and what --measure has added. Equal "
        "channels keep the order of execution.",
        "From Python: profile.rank('sparsity', top=50).",
    ]
)


def _read_share(text: str | None) -> float | None:
    """Return the share that `10%` or `0.1` names.

    Raises:
        FmstatsError: it is no number.
    """
    if text is None:
        return None
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise FmstatsError(f"--share {text!r} is no number: write 10% or 0.1") from error


@app.command(epilog=_EXAMPLES)
def rank(
    file: ProfileArgument,
    by: Annotated[
        str, typer.Option(metavar="COLUMN", help="The number that makes the order.")
    ] = "sparsity",
    top: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help=f"Show only the first N rows; default: {_TOP}."),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(metavar="X", help="Show this share of all channels chosen: 10% or 0.1."),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Rank only layers whose names match; may be repeated."),
    ] = None,
    type_: Annotated[
        list[str] | None,
        typer.Option(
            "--type", metavar="GLOB", help="Rank only layers whose types match; may be repeated."
        ),
    ] = None,
    ascending: Annotated[
        bool, typer.Option("--ascending", help="Put the smallest number first.")
    ] = False,
    group: GroupOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Rank the channels of all layers by one of their numbers.

    Prints a row per channel, for pruning and for finding the odd ones out.
    """
    refuse_both_formats(as_json, as_csv)
    profile = load_group(file, group)
    rows = profile.rank(
        by,
        _TOP if top is None and share is None else top,
        share=_read_share(share),
        layers=layer or None,
        types=type_ or None,
        ascending=ascending,
    )
    names = ("rank", "layer", "type", "channel", by, *(name for name in BESIDE if name != by))
    if as_csv:
        print_data(format_csv(rows, names))
    elif as_json:
        print_data(format_json({"by": by, "ascending": ascending, "channels": rows}))
    else:
        channels = sum(stats.channels for stats in profile.values())
        first = "smallest" if ascending else "largest"
        title = (
            f"{name_group(file, group)}: {len(rows):,} of {channels:,} channels, {first} {by} first"
        )
        print_blocks(title, "", Table(_list_columns(names), rows), elsewhere="--json, --csv")


def _list_columns(names: tuple[str, ...]) -> list[Column]:
    """Return the columns of the table, the number that makes the order before others."""
    left = [Column("layer", "layer", left=True, names=True), Column("type", "type", left=True)]
    channel = Column("channel", "channel", keep=len(names))
    rest = [
        Column(name, name, format_share if name in _SHARES else _show, keep=len(names) - i)
        for i, name in enumerate(names[4:])
    ]
    return [*left, channel, *rest]


def _show(value: float | None) -> str:
    """Show whole numbers and truths as they are, others with four digits."""
    return str(value) if isinstance(value, int) else format_number(value)
