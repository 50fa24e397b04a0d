"""What the commands share that compare a profile with files of its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fmstats.drift import ASSUMED_THRESHOLD, LEAST_SHARDS, THRESHOLD, Comparison
from fmstats.errors import FmstatsError
from fmstats.output.files import find_repeated
from fmstats.profiles.profile import Profile
from fmstats.storage import load

ThresholdOption = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Drift from this score on; chance alone gives about 1. Default: "
        f"{THRESHOLD} with shards of the baseline ({LEAST_SHARDS} or more), "
        f"{ASSUMED_THRESHOLD} without.",
    ),
]
OnlyCommonOption = Annotated[
    bool,
    typer.Option("--only-common", help="Leave out layers that cannot be compared."),
]


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
    only_common: bool,
) -> Comparison:
    """Compare a profile with a baseline of one file, or of several.

    Three or more are its shards, which tell what chance gives; two are not enough for that.

    Args:
        run: the file of the profile in question.
        now: that profile.
        baseline: the files to compare it with.
        threshold: as of `Profile.compare`.
        only_common: as of `Profile.compare`.

    Raises:
        FmstatsError: a file is given twice, cannot be read or does not fit.
    """
    refuse_repeated(
        [run, *baseline],
        "leave one out; what is in question would be among what chance gives, or count twice",
    )
    files = [load(path) for path in baseline]
    shards = files if len(files) >= LEAST_SHARDS else None
    found = now.compare(
        files[0].merge(*files[1:], missing="drop" if only_common else "refuse"),
        calibration=shards,
        threshold=threshold,
        only_common=only_common,
    )
    if shards is not None or len(files) == 1:
        return found
    note = (
        f"{len(files)} files of a baseline do not tell what chance gives: give {LEAST_SHARDS} or "
        "more"
    )
    return replace(found, reasons=(*found.reasons, note))
