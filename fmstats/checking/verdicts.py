"""Decide whether a check fails, and say why in one line."""

from __future__ import annotations

from collections.abc import Sequence

from fmstats.diagnosis import Outcome
from fmstats.diagnosis.conditions import MET
from fmstats.drift import Comparison
from fmstats.drift.compare import NOT_ENOUGH
from fmstats.output.tables import format_plural

PASSED, FAILED, REFUSED = 0, 1, 2  # exit codes


def choose_exit_code(
    outcomes: Sequence[Outcome],
    comparison: Comparison | None,
    fail_on_drift: bool,
    problems: Sequence[str] = (),
) -> int:
    """Return the exit code of a check; see `CheckResult.exit_code`."""
    drift = fail_on_drift and comparison is not None
    if problems:
        return REFUSED
    if any(outcome.fails for outcome in outcomes) or (drift and comparison):
        return FAILED
    return REFUSED if drift and comparison is not None and _is_unknown(comparison) else PASSED


def describe_verdict(
    outcomes: Sequence[Outcome],
    comparison: Comparison | None,
    fail_on_drift: bool,
    problems: Sequence[str] = (),
) -> str:
    """Say in one line whether a check has passed, and why."""
    reasons = [*_describe_outcomes(outcomes), *_describe_drift(comparison, fail_on_drift)]
    code = choose_exit_code(outcomes, comparison, fail_on_drift, problems)
    if problems:
        reasons.insert(0, f"{format_plural(len(problems), 'part')} of the check not done")
    heading = {PASSED: "passed", FAILED: "FAILED", REFUSED: "NO VERDICT"}[code]
    heading = "INCOMPLETE" if problems else heading
    return f"{heading}: {', '.join(reasons) or 'there is no condition to fail on'}"


def _describe_outcomes(outcomes: Sequence[Outcome]) -> list[str]:
    held = sum(outcome.verdict == MET for outcome in outcomes)
    unknown = sum(outcome.fails for outcome in outcomes) - held
    all_of = format_plural(len(outcomes), "condition")
    if not outcomes:
        return []
    reasons = []
    if held or not unknown:
        reasons.append(f"{held or 'none'} of {all_of} {'holds' if held < 2 else 'hold'}")
    if unknown:
        reasons.append(f"{unknown} of {all_of} cannot be judged")
    return reasons


def _describe_drift(comparison: Comparison | None, fail_on_drift: bool) -> list[str]:
    if comparison is None:
        return []
    if _is_unknown(comparison):
        return ["not enough data for a verdict on drift"]
    if comparison.drift:
        aside = "" if fail_on_drift else ", which fails the check only with fail_on_drift"
        return [f"there is drift{aside}"]
    return ["no drift"]


def _is_unknown(comparison: Comparison) -> bool:
    return comparison.verdict == NOT_ENOUGH
