"""Run `fmstats diagnose`: judge a profile, and decide whether a check in CI fails."""

from __future__ import annotations

from typing import Annotated

import typer

from fmstats.checking.result import outcome_to_dict
from fmstats.commands.app import JsonOption, ProfileArgument, app, keep_lines
from fmstats.commands.groups import GroupOption, load_group
from fmstats.commands.judging import FAILED, MEASURES_HELP, DiagnosisOptions
from fmstats.commands.option_sets import spread_options
from fmstats.diagnosis import Diagnosis, Outcome, read_conditions
from fmstats.diagnosis.choice import choose_rules, name_formats
from fmstats.diagnosis.conditions import check_conditions
from fmstats.output.terminal import print_blocks, print_data
from fmstats.storage.exports import format_json

_EXAMPLES = "\n\n".join(
    [
        keep_lines(
            "Examples:",
            "fmstats diagnose run.fmstats",
            'fmstats diagnose run.fmstats --fail-on "dead>5%,nan>0"',
            'fmstats diagnose run.fmstats --fail-on "dead@ReLU*>10%,nan@layer4.*>0,skipped>2%"',
            "fmstats diagnose run.fmstats --rule dead --set dead=0.999 --set samples=1000",
            "fmstats diagnose run.fmstats --formats e4m3,e5m2",
            "fmstats diagnose run.fmstats --json > findings.json",
        ),
        MEASURES_HELP,
        "Exit codes: 0: no --fail-on condition holds. 1: one holds, or there is not enough data to "
        "say. 2: wrong usage, or FILE cannot be read. See docs/diagnose.md.",
    ]
)


@app.command(epilog=_EXAMPLES)
@spread_options
def diagnose(
    file: ProfileArgument,
    options: DiagnosisOptions,
    infos: Annotated[
        bool, typer.Option("--infos", help="Show findings that are only for information, too.")
    ] = False,
    group: GroupOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong in a profile file.

    Prints the findings by rule, what to do about each, and where there is not enough data to judge.
    """
    conditions = [c for text in options.fail_on or () for c in read_conditions(text)]
    formats = options.format_names
    check_conditions(conditions, choose_rules(options.rules, formats).rules)
    formats += name_formats(conditions)
    found = load_group(file, group).diagnose(options.rules, options.thresholds, formats)
    outcomes = [condition.judge(found.measures, found.by_layer) for condition in conditions]
    if as_json:
        print_data(_as_json(found, outcomes))
    else:
        print_blocks(_as_text(found, outcomes, infos or None))
    if any(outcome.fails for outcome in outcomes):
        raise typer.Exit(FAILED)


def _as_text(found: Diagnosis, outcomes: list[Outcome], infos: bool | None) -> str:
    lines = [f"  {outcome}" for outcome in outcomes]
    conditions = ["", "Conditions to fail on", *lines] if lines else []
    return "\n".join([found.describe(infos=infos), *conditions])


def _as_json(found: Diagnosis, outcomes: list[Outcome]) -> str:
    conditions = [outcome_to_dict(outcome) for outcome in outcomes]
    failed = any(outcome.fails for outcome in outcomes)
    return format_json({**found.to_dict(), "fail_on": conditions, "failed": failed})
