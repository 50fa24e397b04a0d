"""Run `fmstats report`: write a profile as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fmstats.commands.app import app, keep_lines
from fmstats.commands.baselines import (
    BaselineOption,
    Missing,
    MissingOption,
    OnlyCommonOption,
    PairedOption,
    TakingBaseline,
    ThresholdOption,
    compare_with,
    read_only_common,
)
from fmstats.commands.completion import complete_profiles
from fmstats.output.terminal import print_blocks
from fmstats.report import check_report, write_report
from fmstats.storage import load

_EXAMPLES = "\n\n".join(
    [
        keep_lines(
            "Examples:",
            "fmstats report run.fmstats -o report.html",
            "fmstats report today.fmstats --baseline march-*.fmstats -o today.html",
        ),
        "The page is one file and needs no network. It shows the findings, curves over all layers, "
        "drift, every channel of every layer, and how the run was made. See docs/report.md.",
    ]
)


@app.command(cls=TakingBaseline, epilog=_EXAMPLES)
def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A profile (.fmstats), written by --out or Profile.save. Give it before "
            "--baseline, which takes all files up to the next option.",
            autocompletion=complete_profiles,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Write the page to FILE (.html).")
    ],
    baseline: BaselineOption = None,
    threshold: ThresholdOption = None,
    missing: MissingOption = Missing.refuse,
    paired: PairedOption = False,
    only_common: OnlyCommonOption = False,
) -> None:
    """Write a profile as one HTML page: findings, curves, drift, every channel."""
    check_report(out)
    profile = load(run)
    comparison = None
    if baseline:
        dropped = read_only_common(only_common, missing)
        comparison = compare_with(
            run, profile, baseline, threshold=threshold, missing=dropped, paired=paired
        )
    write_report(profile, out, comparison)
    print_blocks(f"Written to {out}: {out.stat().st_size / 1e6:.1f} MB")
