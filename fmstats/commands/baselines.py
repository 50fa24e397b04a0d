"""Compare a profile with the files of its baseline, for several commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from fmstats.commands.completion import complete_profiles
from fmstats.commands.groups import load_group
from fmstats.drift import ASSUMED_THRESHOLD, LEAST_SHARDS, THRESHOLD, Baseline, Comparison
from fmstats.output.files import refuse_repeated
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


BaselineOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILES...",
        help="Compare with this profile, or with three or more shards of it, which also show "
        "how much profiles differ by chance.",
        autocompletion=complete_profiles,
    ),
]


class TakingBaseline(TyperCommand):
    """Lets --baseline take all files up to the next option, as a shell lists them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, with the option before each of its files."""
        return super().parse_args(ctx, list(_repeat("--baseline", args)))


def _repeat(option: str, arguments: list[str]) -> Iterator[str]:
    """Repeat the option before its second and every later value."""
    values = None  # of the option, while they go on
    for argument in arguments:
        if argument == option:
            values = 0
        elif argument.startswith(f"{option}="):
            values = 1
        elif argument.startswith("-"):
            values = None
        elif values is not None:
            values += 1
            if values > 1:
                yield option
        yield argument


PairedOption = Annotated[
    bool,
    typer.Option(
        "--paired",
        help="Both saw the same inputs, such as two checkpoints of one model: show how large "
        "changes are, where nothing is chance. It is drift only from --threshold on.",
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


def compare_with(
    run: Path,
    now: Profile,
    baseline: Sequence[Path],
    *,
    threshold: float | None,
    missing: str,
    paired: bool = False,
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
        paired: as of `Profile.compare`.
        groups: which group `now` is, and which one of the baseline it is compared with.

    Raises:
        FmstatsError: a file is given twice, cannot be read or does not fit.
    """
    group, baseline_group = groups
    refuse_repeated(
        [run, *baseline] if group == baseline_group else baseline,
        "leave one out, or a profile would be compared with itself or count twice",
    )
    profiles = [load_group(path, baseline_group) for path in baseline]
    whole = Baseline.of(profiles, missing)
    if paired:
        return now.compare(whole.whole, threshold=threshold, missing=missing, paired=True)
    return whole.compare(now, threshold)
