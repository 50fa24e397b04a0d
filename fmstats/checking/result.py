"""Hold what a check has found, and derive its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmstats.checking.summary import summarise
from fmstats.checking.verdicts import choose_exit_code
from fmstats.diagnosis import Diagnosis, Outcome
from fmstats.drift import Comparison
from fmstats.profiles.metadata import name_model
from fmstats.profiles.profile import Profile

SCHEMA = 1  # of `CheckResult.to_dict`
_TOP = 20  # layers and channels of a comparison in `to_dict`


@dataclass(frozen=True)
class CheckResult:
    """Holds what a check has found; printing it shows the summary.

    Attributes:
        profile: of the run.
        diagnosis: of the profile.
        comparison: with the baseline; None without one, or where they cannot be compared.
        outcomes: the verdict on each condition of `fail_on`.
        fail_on_drift: whether drift fails the check.
        seconds: from the first sample to the verdict.
        name: what the check is called; None: the class of the model.
        problems: what could not be done, such as a file that could not be written.
        written: the files.

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.ReLU())
        >>> result = fmstats.check(model, torch.rand(400, 2), fail_on="nan>0", progress=False)
        >>> result.passed, result.exit_code, result.outcomes[0].verdict
        (True, 0, 'does not hold')
    """

    profile: Profile
    diagnosis: Diagnosis
    comparison: Comparison | None
    outcomes: Sequence[Outcome]
    fail_on_drift: bool
    seconds: float
    name: str | None = None
    problems: Sequence[str] = ()
    written: Sequence[Path] = ()

    @property
    def exit_code(self) -> int:
        """Return 0 if the check has passed.

        It is 1 if a condition holds or cannot be judged, or if there is drift that fails the check;
        and 2 if a part of the check could not be done, or there is not enough data for the verdict
        on drift that was asked for.
        """
        return choose_exit_code(self.outcomes, self.comparison, self.fail_on_drift, self.problems)

    @property
    def passed(self) -> bool:
        """Return whether nothing fails the check."""
        return self.exit_code == 0

    @property
    def model(self) -> str:
        """Return what the check is called: its name, or the class of the model."""
        return self.name or name_model(self.profile.metadata)

    def __str__(self) -> str:
        return summarise(
            self.profile,
            self.diagnosis,
            self.comparison,
            self.outcomes,
            fail_on_drift=self.fail_on_drift,
            problems=self.problems,
            name=self.name,
            seconds=self.seconds,
            written=self.written,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings, ready for JSON; docs/nightly.md describes them.

        The layers and channels of the comparison are those that moved most.
        """
        return {
            "schema": SCHEMA,
            "name": self.model,
            "passed": self.passed,
            "exit_code": self.exit_code,
            "seconds": self.seconds,
            "metadata": self.profile.metadata,
            "diagnosis": self.diagnosis.to_dict(),
            "conditions": [outcome_to_dict(outcome) for outcome in self.outcomes],
            "fail_on_drift": self.fail_on_drift,
            "comparison": None if self.comparison is None else self.comparison.to_dict(top=_TOP),
            "problems": list(self.problems),
            "written": [str(path) for path in self.written],
        }


def outcome_to_dict(outcome: Outcome) -> dict[str, Any]:
    """Return the verdict on a condition as plain numbers and strings."""
    return {
        "condition": outcome.condition,
        "layer": outcome.layer,
        "verdict": outcome.verdict,
        "at_least": outcome.measure.at_least,
        "at_most": outcome.measure.at_most,
        "reason": outcome.measure.reason,
    }
