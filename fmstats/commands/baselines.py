"""What the commands share that compare a profile with files of its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fmstats.drift import ASSUMED_THRESHOLD, THRESHOLD, Comparison
from fmstats.profiles import Profile
from fmstats.storage import load

ThresholdOption = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Drift from this score on; chance alone gives about 1. Default: "
        f"{THRESHOLD} with shards of the baseline, {ASSUMED_THRESHOLD} without.",
    ),
]
OnlyCommonOption = Annotated[
    bool,
    typer.Option("--only-common", help="Leave out layers that cannot be compared."),
]


def compare_with(
    now: Profile, baseline: Sequence[Path], *, threshold: float | None, only_common: bool
) -> Comparison:
    """Compare a profile with a baseline of one file, or of several, which are its shards."""
    shards = [load(path) for path in baseline]
    return now.compare(
        shards[0].merge(*shards[1:]),
        calibration=shards if len(shards) > 1 else None,
        threshold=threshold,
        only_common=only_common,
    )
