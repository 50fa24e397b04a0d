"""Compare a profile with the files of its baseline, for several commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fmstats.commands.groups import load_group
from fmstats.drift import ASSUMED_THRESHOLD, LEAST_SHARDS, THRESHOLD, Comparison
from fmstats.errors import FmstatsError
from fmstats.output.files import find_repeated
from fmstats.profiles.profile import Profile

ThresholdOption = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="It is drift if the score is at least X (about 1 by chance). Default: "
        f"{THRESHOLD} with {LEAST_SHARDS} or more shards of the baseline, "
        f"{ASSUMED_THRESHOLD} without.",
    ),
]


class Missing(str, Enum):
    """Says what to do with layers that cannot be compared."""

    refuse = "refuse"
    drop = "drop"


MissingOption = Annotated[
    Missing,
    typer.Option(
        help="Layers that cannot be compared, since one profile lacks them or they do not fit: "
        "refuse to compare, or drop them.",
    ),
]
OnlyCommonOption = Annotated[
    bool, typer.Option("--only-common", hidden=True, help="Deprecated: use --missing drop.")
]


def read_only_common(only_common: bool, missing: Enum) -> str:
    """Return what --missing is; a command line may still say --only-common, as in fmstats 0.1."""
    if not only_common:
        return str(missing.value)
    typer.echo("fmstats: --only-common is deprecated: use --missing drop", err=True)
    return "drop"


def refuse_repeated(paths: Sequence[Path], why: str) -> None:
    """Refuse profiles of which two are the same: a glob may take more than it should.

    Raises:
        FmstatsError: there are two; it ends in `why`.
    """
    both = find_repeated(paths)
    if both is not None:
        raise FmstatsError(f"{str(both[0])!r} and {str(both[1])!r} are the same profile: {why}")


def compare_with(
    run: Path,
    now: Profile,
    baseline: Sequence[Path],
    *,
    threshold: float | None,
    missing: str,
    groups: tuple[str | None, str | None] = (None, None),
) -> Comparison:
    """Compare a profile with a baseline of one file, or of several.

    Three or more are its shards, which show what chance gives; two are not enough for that.

    Args:
        run: the file of the profile in question.
        now: that profile, or a group of it.
        baseline: the files to compare it with.
        threshold: as of `Profile.compare`.
        missing: as of `Profile.compare`.
        groups: which group `now` is, and which one of the baseline it is compared with.

    Raises:
        FmstatsError: a file is given twice, cannot be read or does not fit.
    """
    group, baseline_group = groups
    refuse_repeated(
        [run, *baseline] if group == baseline_group else baseline,
        "leave one out, or a profile would be compared with itself or count twice",
    )
    files = [load_group(path, baseline_group) for path in baseline]
    shards = files if len(files) >= LEAST_SHARDS else None
    found = now.compare(
        files[0].merge(*files[1:], missing=missing),
        calibration=shards,
        threshold=threshold,
        missing=missing,
    )
    if shards is not None or len(files) == 1:
        return found
    note = (
        f"{len(files)} files of a baseline do not show how much profiles differ by chance: give "
        f"{LEAST_SHARDS} or more"
    )
    return replace(found, reasons=(*found.reasons, note))
