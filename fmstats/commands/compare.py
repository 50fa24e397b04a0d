"""Run `fmstats compare`: measure how far a profile has moved from its baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fmstats.commands.app import JsonOption, TopOption, app, keep_lines
from fmstats.commands.baselines import (
    Missing,
    MissingOption,
    OnlyCommonOption,
    PairedOption,
    ThresholdOption,
    compare_with,
    read_only_common,
)
from fmstats.commands.completion import complete_profiles
from fmstats.commands.groups import (
    BaselineGroupOption,
    GroupOption,
    choose_baseline_group,
    load_group,
    name_group,
)
from fmstats.output.terminal import print_blocks, print_data
from fmstats.storage.exports import format_json

_EXAMPLES = "\n\n".join(
    [
        keep_lines(
            "Examples:",
            "fmstats compare today.fmstats baseline.fmstats",
            "fmstats compare today.fmstats march-*.fmstats --fail-on-drift",
            "fmstats compare today.fmstats baseline.fmstats --json --top 50 > drift.json",
            "fmstats compare int8.fmstats float32.fmstats --paired",
            "fmstats compare run.fmstats run.fmstats --group cat --baseline-group dog",
        ),
        keep_lines(
            "Exit codes:",
            "0  the profiles were compared; without --fail-on-drift also if there is drift",
            "1  there is drift, and --fail-on-drift is given",
            "2  a wrong option, an unreadable file, or profiles that cannot be compared; with",
            "   --fail-on-drift also if there is not enough data for a verdict",
        ),
    ]
)


@app.command(epilog=_EXAMPLES)
def compare(
    now: Annotated[
        Path,
        typer.Argument(
            metavar="NOW", help="The profile to judge.", autocompletion=complete_profiles
        ),
    ],
    baseline: Annotated[
        list[Path],
        typer.Argument(
            metavar="BASELINE...",
            help="The profile to compare with, or three or more shards of it, which also show how "
            "much profiles differ by chance.",
            autocompletion=complete_profiles,
        ),
    ],
    threshold: ThresholdOption = None,
    top: TopOption = 10,
    missing: MissingOption = Missing.refuse,
    paired: PairedOption = False,
    only_common: OnlyCommonOption = False,
    group: GroupOption = None,
    baseline_group: BaselineGroupOption = None,
    as_json: JsonOption = False,
    fail_on_drift: Annotated[
        bool, typer.Option("--fail-on-drift", help="Exit with code 1 if there is drift.")
    ] = False,
) -> None:
    """Say whether NOW has drifted from BASELINE.

    Prints a score, a verdict, and the layers and channels that changed most. A score is the size
    of the change divided by its usual size by chance for this number of samples.
    """
    dropped = read_only_common(only_common, missing)
    baseline_group = choose_baseline_group(group, baseline_group)
    found = compare_with(
        now,
        load_group(now, group),
        baseline,
        threshold=threshold,
        missing=dropped,
        paired=paired,
        groups=(group, baseline_group),
    )
    if as_json:
        print_data(format_json(found.to_dict(top=top)))
    else:
        others = ", ".join(name_group(path, baseline_group) for path in baseline)
        title = f"{name_group(now, group)} against {others}"
        print_blocks(title, "", *found.blocks(top), elsewhere="--json")
    if fail_on_drift and found.verdict != "no drift":
        raise typer.Exit(1 if found.drift else 2)
