"""Run `fmstats check`: profile a model, judge it, write files, and end with one exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fmstats.checking import CheckError, CheckRequest
from fmstats.checking.assets import NAMES, write_assets
from fmstats.checking.nightly import run_check
from fmstats.checking.outputs import Outputs
from fmstats.checking.result import CheckResult
from fmstats.commands.app import JsonOption, app, keep_lines
from fmstats.commands.baselines import (
    BaselineOption,
    Missing,
    MissingOption,
    TakingBaseline,
    ThresholdOption,
)
from fmstats.commands.judging import MEASURES_HELP, DiagnosisOptions
from fmstats.commands.option_sets import spread_options
from fmstats.commands.running import OutOption, RunOptions, launched
from fmstats.commands.tracking import TrackingOptions
from fmstats.output.terminal import print_blocks, print_data
from fmstats.storage.exports import format_json

_EXAMPLES = "\n\n".join(
    [
        keep_lines(
            "Examples:",
            "fmstats check net.py:make_net --data photos/ --fail-on 'dead>5%,nan>0'",
            "fmstats check net.py:make_net --data today/ --baseline march-*.fmstats \\",
            "    --fail-on 'dead>5%,nan>0' --fail-on-drift --prom run.prom \\",
            "    --report run.html --out run.fmstats",
            "fmstats check nets:Net --data x.npy --json > verdict.json",
            "fmstats check --write-assets monitoring/",
        ),
        MEASURES_HELP,
        keep_lines(
            "Exit codes:",
            "0  the check has passed",
            "1  a --fail-on condition holds or cannot be judged, or there is drift and",
            "   --fail-on-drift is given",
            "2  wrong usage, an unreadable file, a profile that cannot be compared, a file that",
            "   cannot be written; with --fail-on-drift also if there is not enough data for a",
            "   verdict. The files are written whether the check passes or not.",
            "130  the run was interrupted",
        ),
        "docs/nightly.md has a timer for systemd, a job for Kubernetes and alerts for Prometheus.",
    ]
)


def _write_assets(folder: Path | None) -> None:
    if folder is not None:
        for path in write_assets(folder):
            print_blocks(f"Written to {path}")
        raise typer.Exit


@app.command(cls=TakingBaseline, epilog=_EXAMPLES)
@spread_options
def check(
    run: RunOptions,
    judging: DiagnosisOptions,
    *,
    fail_on_drift: Annotated[
        bool,
        typer.Option("--fail-on-drift", help="Exit with 1 if there is drift from --baseline."),
    ] = False,
    baseline: BaselineOption = None,
    threshold: ThresholdOption = None,
    missing: MissingOption = Missing.refuse,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What the summary and the label 'model' in --prom say; default: the class of "
            "MODEL.",
        ),
    ] = None,
    out: OutOption = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with all of it (.html).")
    ] = None,
    prom: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the result for the textfile collector of Prometheus's node_exporter "
            "(.prom).",
        ),
    ] = None,
    prom_layers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Layers that have series of their own in --prom; default: none. May be repeated.",
        ),
    ] = None,
    as_json: JsonOption = False,
    tracking: TrackingOptions,
    assets: Annotated[
        Path | None,
        typer.Option(
            "--write-assets",
            metavar="DIR",
            callback=_write_assets,
            is_eager=True,
            help=f"Write {' and '.join(NAMES)} for Prometheus and Grafana into DIR, and exit.",
        ),
    ] = None,
) -> None:
    """Profile MODEL, judge it, and end with one exit code.

    Does what profile, diagnose, compare and report do, and prints a summary of about ten lines.
    """
    # Before the run: an hour of work must not end in a misspelt folder or condition.
    request = CheckRequest.of(
        baseline=baseline or None,
        fail_on=judging.fail_on or (),
        fail_on_drift=fail_on_drift,
        threshold=threshold,
        missing=missing.value,
        rules=judging.rules,
        thresholds=judging.thresholds,
        formats=judging.format_names,
        name=name,
        outputs=Outputs(out, report, prom, prom_layers or ()),
    )
    # Other ranks end well in any case: torchrun would end rank 0 while it writes.
    with launched(run, tracking, out) as launch:
        try:
            result = run_check(launch.model, launch.source, request, launch.arguments)
        except CheckError as error:
            if not launch.speaks:
                return
            _print(error.result, as_json)
            raise
        if not launch.speaks:
            return
        _print(result, as_json)
        if result.exit_code:
            raise typer.Exit(result.exit_code)


def _print(result: CheckResult, as_json: bool) -> None:
    if as_json:
        print_data(format_json(result.to_dict()))
    else:
        print_blocks(str(result))
