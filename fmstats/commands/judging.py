"""Define the options of commands that diagnose a profile and fail on conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from fmstats.commands.completion import complete_rules
from fmstats.diagnosis import RULES
from fmstats.diagnosis.formats import FORMATS
from fmstats.diagnosis.measures import COUNTED, RUN_SHARES
from fmstats.errors import FmstatsError

FAILED = 1  # the exit code where a --fail-on condition holds, or cannot be judged

MEASURES_HELP = (
    f"MEASURE is {', '.join((*COUNTED, *RUN_SHARES))}, or the name of a rule: the share of "
    "channels or layers that it finds, of those that the rule is about. mean(MEASURE)@LAYERS takes "
    f"the channels of these layers together. Rules: {', '.join(RULES)}."
)


@dataclass(frozen=True)
class DiagnosisOptions:
    """Holds what a command line says of a diagnosis."""

    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="MEASURE[@LAYERS]>X,...",
            help="Exit with 1 if a condition holds, e.g. 'dead>5%,nan>0', or in one of the layers "
            "whose name or type matches, e.g. 'dead@ReLU*>10%'; may be repeated.",
        ),
    ] = None
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            metavar="NAME",
            help="Apply only this rule; may be repeated.",
            autocompletion=complete_rules,
        ),
    ] = None
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=X", help="Set a threshold, e.g. dead=0.999."),
    ] = None
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--formats",
            metavar="NAME,...",
            help="Ask what a cast to these float formats would lose, beside those of 16 bits: "
            f"{', '.join(form.name for form in FORMATS if form.scaled)}; may be repeated.",
        ),
    ] = None

    @property
    def rules(self) -> list[str] | None:
        """Return the rules to apply; None for all."""
        return self.rule or None

    @property
    def thresholds(self) -> dict[str, float]:
        """Return the thresholds that are set.

        Raises:
            FmstatsError: a text is not of the form `NAME=X`.
        """
        return _read_settings(self.setting or ())

    @property
    def format_names(self) -> list[str]:
        """Return the formats that are asked about."""
        return [name for text in self.formats or () for name in text.split(",")]


def _read_settings(texts: Sequence[str]) -> dict[str, float]:
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
