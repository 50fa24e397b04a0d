"""Define the options that choose a group of a profile, and load it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fmstats.commands.completion import complete_groups
from fmstats.errors import FmstatsError
from fmstats.profiles.profile import Profile
from fmstats.profiles.summary import choose_group
from fmstats.storage import load

GroupOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Take the statistics of this group of positions; default: of all together.",
        autocompletion=complete_groups,
    ),
]
BaselineGroupOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Take this group of the baseline; default: that of --group.",
        autocompletion=complete_groups,
    ),
]


def load_group(path: Path, group: str | None) -> Profile:
    """Load a profile, or one of its groups.

    Raises:
        FmstatsError: the file cannot be read, or has no such group.
    """
    return choose_group(load(path), group, of=repr(str(path)))


def name_group(path: Path, group: str | None) -> str:
    """Return what a profile, or one of its groups, is called in titles."""
    return str(path) if group is None else f"{path}, group {group}"


def choose_baseline_group(group: str | None, baseline_group: str | None) -> str | None:
    """Return the group of the baseline that `--group` and `--baseline-group` ask for.

    Raises:
        FmstatsError: one of the baseline alone: a group is no part of all positions to compare.
    """
    if baseline_group is not None and group is None:
        raise FmstatsError("--baseline-group is given without --group: give both, or --group alone")
    return group if baseline_group is None else baseline_group
