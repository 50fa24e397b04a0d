"""Read and judge conditions on the measures of a diagnosis, such as `dead>5%, nan>0`.

    conditions = condition {"," condition}
    condition  = measure ("<" | "<=" | ">" | ">=" | "==" | "!=") number ["%"]

A measure is the name of a rule (a share) or one of `fmstats.diagnosis.measures.COUNTED` (a count).
Where evidence is lacking, a measure is a range. A condition that holds all over that range holds;
one that holds nowhere in it does not; of any other there is not enough data to say.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fmstats.diagnosis.measures import COUNTED, Measure
from fmstats.diagnosis.rules import RULES
from fmstats.diagnosis.thresholds import unknown
from fmstats.errors import FmstatsError

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(r"\s*([\w-]+?)\s*([<>=!]+)\s*([^\s%]+)\s*(%?)\s*")

MET, NOT_MET, UNKNOWN = "holds", "does not hold", "not enough data"


@dataclass(frozen=True)
class Condition:
    """Compares a measure with a number."""

    measure: str
    operator: str
    number: float

    def __str__(self) -> str:
        return f"{self.measure}{self.operator}{self.number:.12g}"

    def judge(self, measures: Mapping[str, Measure]) -> Outcome:
        """Judge whether the condition holds.

        Raises:
            FmstatsError: the measure is that of a rule which was not applied.
        """
        if self.measure not in measures:
            raise FmstatsError(
                f"condition {str(self)!r} needs the rule {self.measure!r}, which was not applied: "
                f"measured are {', '.join(measures)}"
            )
        measure = measures[self.measure]
        compare = _OPERATORS[self.operator]
        # Each comparison is monotone but for equality, which is certain at a single point alone.
        ends = {compare(measure.at_least, self.number), compare(measure.most, self.number)}
        inside = measure.at_least < self.number < measure.most and self.operator in ("==", "!=")
        sure = len(ends) == 1 and not inside
        verdict = (MET if ends.pop() else NOT_MET) if sure else UNKNOWN
        return Outcome(str(self), verdict, measure)


@dataclass(frozen=True)
class Outcome:
    """Holds the verdict on one condition.

    Attributes:
        verdict: "holds", "does not hold" or "not enough data".
    """

    condition: str
    verdict: str
    measure: Measure

    @property
    def fails(self) -> bool:
        """Return whether a check fails: the condition holds, or there is not enough data to say."""
        return self.verdict != NOT_MET

    def __str__(self) -> str:
        measure = self.measure
        if measure.reason is None:
            seen = _short(measure.at_least)
        else:
            most = "any number" if measure.at_most is None else _short(measure.at_most)
            seen = f"{_short(measure.at_least)} to {most}, {measure.reason}"
        return f"{self.condition}  {self.verdict}: {seen} ({measure.unit})"


def read_conditions(text: str) -> list[Condition]:
    """Parse conditions such as `dead>0.05,nan>0`.

    Raises:
        FmstatsError: a part that is no comparison, an unknown measure or operator, or no number.
    """
    return [_read(part) for part in text.split(",")]


def check_conditions(conditions: Sequence[Condition], rules: Sequence[str]) -> None:
    """Refuse conditions on rules that will not be applied.

    Raises:
        FmstatsError: as `Condition.judge`, but before the work.
    """
    for condition in conditions:
        if condition.measure not in COUNTED and condition.measure not in rules:
            raise FmstatsError(
                f"condition {str(condition)!r} needs the rule {condition.measure!r}, which is not "
                f"among those chosen: {', '.join(rules)}"
            )


def _read(text: str) -> Condition:
    match = _FORM.fullmatch(text)
    if match is None:
        raise FmstatsError(
            f"condition {text.strip()!r} is not understood: write MEASURE>NUMBER, such as "
            f"dead>0.05 or nan>0, with one of {' '.join(_OPERATORS)}"
        )
    name, sign, number, percent = match.groups()
    if sign not in _OPERATORS:
        raise FmstatsError(
            f"condition {text.strip()!r}: there is no {sign!r}; choose from {' '.join(_OPERATORS)}"
        )
    if name not in RULES and name not in COUNTED:
        raise FmstatsError(
            f"condition {text.strip()!r}: {unknown('measure', name, (*COUNTED, *RULES))}"
        )
    if percent and name in COUNTED:
        raise FmstatsError(f"condition {text.strip()!r}: {name} is a count, not a share")
    value = _number(text.strip(), number) / (100 if percent else 1)
    if name not in COUNTED and value > 1:
        hint = "" if percent else f"; {name}{sign}{number}% is a share"
        raise FmstatsError(
            f"condition {text.strip()!r}: {name} is a share of channels or layers, from 0 to 1"
            + hint
        )
    return Condition(name, sign, value)


def _number(text: str, digits: str) -> float:
    try:
        number = float(digits)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise FmstatsError(f"condition {text!r}: {digits!r} is not a finite number")
    return number


def _short(number: float) -> str:
    """Format a count in full, and a share to six digits."""
    return f"{number:,}" if isinstance(number, int) else f"{number:.6g}"
