"""Run `fmstats diagnose`: judge a profile, and decide whether a check in CI fails."""

from __future__ import annotations

from typing import Annotated

import typer

from fmstats.commands.app import JsonOption, ProfileArgument, app, keep_lines
from fmstats.commands.completion import complete_rules
from fmstats.commands.groups import GroupOption, load_group
from fmstats.diagnosis import RULES, Diagnosis, Outcome, read_conditions
from fmstats.diagnosis.choice import choose_rules, name_formats
from fmstats.diagnosis.conditions import check_conditions
from fmstats.diagnosis.formats import FORMATS
from fmstats.diagnosis.measures import COUNTED, RUN_SHARES
from fmstats.errors import FmstatsError
from fmstats.output.terminal import print_blocks, print_data
from fmstats.storage.exports import format_json

FAILED = 1  # the exit code where a --fail-on condition holds, or cannot be judged

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
        f"MEASURE is {', '.join((*COUNTED, *RUN_SHARES))}, or the name of a rule: the share of "
        "channels or layers that it finds, of those that the rule is about. mean(MEASURE)@LAYERS "
        f"takes the channels of these layers together. Rules: {', '.join(RULES)}.",
        "Exit codes: 0: no --fail-on condition holds. 1: one holds, or there is not enough data to "
        "say. 2: wrong usage, or FILE cannot be read. See docs/diagnose.md.",
    ]
)


@app.command(epilog=_EXAMPLES)
def diagnose(
    file: ProfileArgument,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="MEASURE[@LAYERS]>X,...",
            help="Exit with 1 if a condition holds, e.g. 'dead>5%,nan>0', or in one of the layers "
            "whose name or type matches, e.g. 'dead@ReLU*>10%'; may be repeated.",
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            metavar="NAME",
            help="Apply only this rule; may be repeated.",
            autocompletion=complete_rules,
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=X", help="Set a threshold, e.g. dead=0.999."),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--formats",
            metavar="NAME,...",
            help="Ask what a cast to these float formats would lose, beside those of 16 bits: "
            f"{', '.join(form.name for form in FORMATS if form.scaled)}; may be repeated.",
        ),
    ] = None,
    infos: Annotated[
        bool, typer.Option("--infos", help="Show findings that are only for information, too.")
    ] = False,
    group: GroupOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong in a profile file.

    Prints the findings by rule, what to do about each, and where there is not enough data to judge.
    """
    conditions = [condition for text in fail_on or () for condition in read_conditions(text)]
    asked = [name for text in formats or () for name in text.split(",")]
    check_conditions(conditions, choose_rules(rule or None, asked).rules)
    asked += name_formats(conditions)
    found = load_group(file, group).diagnose(rule or None, _read_settings(setting or []), asked)
    outcomes = [condition.judge(found.measures, found.by_layer) for condition in conditions]
    if as_json:
        print_data(_as_json(found, outcomes))
    else:
        print_blocks(_as_text(found, outcomes, infos or None))
    if any(outcome.fails for outcome in outcomes):
        raise typer.Exit(FAILED)


def _read_settings(texts: list[str]) -> dict[str, float]:
    thresholds = {}
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            thresholds[name.strip()] = float(number)
        except ValueError as error:
            what = f"{number!r} is not a number" if equals else "there is no '=' in it"
            raise FmstatsError(
                f"--set {text!r}: {what}; write NAME=X, such as dead=0.999"
            ) from error
    return thresholds


def _as_text(found: Diagnosis, outcomes: list[Outcome], infos: bool | None) -> str:
    lines = [f"  {outcome}" for outcome in outcomes]
    return "\n".join(
        [found.describe(infos=infos), *(["", "Conditions to fail on", *lines] if lines else [])]
    )


def _as_json(found: Diagnosis, outcomes: list[Outcome]) -> str:
    conditions = [
        {
            "condition": outcome.condition,
            "layer": outcome.layer,
            "verdict": outcome.verdict,
            "at_least": outcome.measure.at_least,
            "at_most": outcome.measure.at_most,
            "reason": outcome.measure.reason,
        }
        for outcome in outcomes
    ]
    failed = any(outcome.fails for outcome in outcomes)
    return format_json({**found.to_dict(), "fail_on": conditions, "failed": failed})
