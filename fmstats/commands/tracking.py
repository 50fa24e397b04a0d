"""Options of commands that `track` takes in other words, and how they are read."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from fmstats.commands.completion import complete_masks
from fmstats.errors import FmstatsError
from fmstats.tracking.options import describe_option

ChannelDimOption = Annotated[str, typer.Option(metavar="DIM", help=describe_option("channel_dim"))]
FunctionalOption = Annotated[
    str, typer.Option(metavar="auto|on|off|NAME,...", help=describe_option("functional"))
]


class MaskMismatch(str, Enum):
    """Says what to do with tensors that the mask does not fit."""

    leave_out = "skip"
    count_whole = "count"
    error = "raise"


MaskOption = Annotated[
    str | None,
    typer.Option(metavar="auto|ARG", help=describe_option("mask"), autocompletion=complete_masks),
]
MaskMismatchOption = Annotated[MaskMismatch, typer.Option(help=describe_option("mask_mismatch"))]
GroupsOption = Annotated[str | None, typer.Option(metavar="ARG", help=describe_option("groups"))]
GroupNamesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--group-name",
        metavar="NAME",
        help=f"{describe_option('group_names')} May be repeated.",
    ),
]
MaxGroupsOption = Annotated[
    int, typer.Option(metavar="N", min=1, help=describe_option("max_groups"))
]


class Measure(str, Enum):
    """Names what `--measure` can add."""

    absolute = "abs"
    kurtosis = "kurtosis"
    histogram = "histogram"


class Scope(str, Enum):
    """Says what has a histogram of its own."""

    layer = "layer"
    channel = "channel"


MeasureOption = Annotated[
    list[Measure] | None,
    typer.Option(help=f"{describe_option('measure')} May be repeated."),
]
HistogramOption = Annotated[Scope, typer.Option(help=describe_option("histogram"))]
ResolutionOption = Annotated[
    int, typer.Option(metavar="N", min=0, max=6, help=describe_option("resolution"))
]


def read_channel_dim(text: str) -> int | str:
    """Return the dim that `--channel-dim` asks for, or "auto".

    Raises:
        FmstatsError: it is neither.
    """
    try:
        return text if text == "auto" else int(text)
    except ValueError as error:
        raise FmstatsError(f"--channel-dim {text!r} is neither 'auto' nor a number") from error


def read_functional(text: str) -> bool | str | list[str]:
    """Return which functional operations `--functional` asks for, as `functional=` takes it.

    Raises:
        FmstatsError: a name is empty.
    """
    if text in ("auto", "on", "off"):
        return text if text == "auto" else text == "on"
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise FmstatsError(
            f"--functional {text!r}: choose auto, on, off, or names of operations or of rows, "
            "separated by commas"
        )
    return names
