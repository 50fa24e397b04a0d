"""Read what a check is asked for, and refuse what cannot be done, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from fmstats.checking.baselines import Given, read_baseline
from fmstats.checking.outputs import Outputs
from fmstats.diagnosis import Condition, Diagnosis, Outcome, diagnose, read_conditions
from fmstats.diagnosis.choice import choose_rules, name_formats
from fmstats.diagnosis.conditions import check_conditions
from fmstats.diagnosis.thresholds import choose_thresholds
from fmstats.drift import Baseline, Comparison
from fmstats.drift.compare import choose_threshold
from fmstats.drift.matching import check_missing
from fmstats.errors import FmstatsError
from fmstats.profiles.metadata import refuse_other_options
from fmstats.profiles.profile import Profile
from fmstats.tracking.options import TrackOptions

_TRACKED = frozenset(option.name for option in fields(TrackOptions))


@dataclass(frozen=True)
class CheckRequest:
    """Holds what a check is asked for; `of` makes it of the arguments of `fmstats.check`."""

    conditions: Sequence[Condition] = ()
    fail_on_drift: bool = False
    baseline: Baseline | None = None
    threshold: float | None = None
    rules: Sequence[str] | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    formats: Sequence[str] = ()
    name: str | None = None
    outputs: Outputs = field(default_factory=Outputs)

    @classmethod
    def of(
        cls,
        *,
        baseline: Given = None,
        fail_on: str | Iterable[str] = (),
        fail_on_drift: bool = False,
        threshold: float | None = None,
        missing: str = "refuse",
        rules: Iterable[str] | None = None,
        thresholds: Mapping[str, float] | None = None,
        formats: Iterable[str] = (),
        name: str | None = None,
        outputs: Outputs | None = None,
    ) -> CheckRequest:
        """Read the arguments of `fmstats.check` that have these names.

        Raises:
            FmstatsError: a condition, rule, threshold or format is refused, a file of the baseline
                cannot be read, an output could not be written, or two arguments do not fit.
        """
        if fail_on_drift and baseline is None:
            raise FmstatsError("fail_on_drift (--fail-on-drift) needs a baseline (--baseline)")
        texts = [fail_on] if isinstance(fail_on, str) else fail_on
        conditions = [condition for text in texts for condition in read_conditions(text)]
        rules = None if rules is None else [rules] if isinstance(rules, str) else list(rules)
        formats = [formats] if isinstance(formats, str) else list(formats)
        check_conditions(conditions, choose_rules(rules, formats).rules)
        choose_thresholds(thresholds)
        choose_threshold(threshold, None)
        check_missing(missing)
        outputs = outputs or Outputs()
        outputs.check()
        return cls(
            conditions,
            fail_on_drift,
            read_baseline(baseline, missing),
            threshold,
            rules,
            thresholds or {},
            [*formats, *name_formats(conditions)],
            name,
            outputs,
        )

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse options of `profile` with which the profile cannot be compared.

        Raises:
            FmstatsError: an option of `track` is refused, or the baseline was made with another.
        """
        asked = TrackOptions(**{name: options[name] for name in options if name in _TRACKED})
        if self.baseline is not None:
            refuse_other_options(
                "compare with the baseline:", asked.kept(), self.baseline.whole.metadata
            )

    def diagnose(self, profile: Profile) -> tuple[Diagnosis, tuple[Outcome, ...]]:
        """Diagnose a profile and judge the conditions."""
        found = diagnose(profile, self.rules, self.thresholds, self.formats)
        judged = (each.judge(found.measures, found.by_layer) for each in self.conditions)
        return found, tuple(judged)

    def compare(self, profile: Profile) -> Comparison | None:
        """Compare a profile with the baseline; None without one.

        Raises:
            FmstatsError: they cannot be compared.
        """
        return None if self.baseline is None else self.baseline.compare(profile, self.threshold)
