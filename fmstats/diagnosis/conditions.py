"""Read and judge conditions on the measures of a diagnosis, such as `dead>5%, nan@layer4*>0`.

    conditions = condition {"," condition}
    condition  = measure ["@" glob] sign number ["%"]
    measure    = name | ("max" | "mean") "(" name ")"
    sign       = "<" | "<=" | ">" | ">=" | "==" | "!="

A name is that of a rule (a share), or one of `COUNTED` or `RUN_SHARES` of
`fmstats.diagnosis.measures`. Behind `@` stands a glob of layer names or of types: the condition
holds if it holds for one of these layers. `max()` says the same; `mean()` takes all of their
channels together.

Where evidence is lacking, a measure is a range. A condition that holds all over that range holds;
one that holds nowhere in it does not; of any other there is not enough data to say.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fmstats.diagnosis.measures import (
    COUNTED,
    OF_RUNS,
    RUN_SHARES,
    LayerMeasures,
    Measure,
    pool_measures,
)
from fmstats.diagnosis.rules import RULES
from fmstats.diagnosis.thresholds import unknown
from fmstats.errors import FmstatsError
from fmstats.output.tables import make_printable, name_some

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_NAME = r"(?:(?P<of>max|mean)\s*\(\s*(?P<inner>[\w-]+)\s*\)|(?P<name>[\w-]+?))"
_WHERE = r"(?:@\s*(?P<where>[^<>=!]*?))?"
_FORM = re.compile(
    rf"\s*{_NAME}\s*{_WHERE}\s*(?P<sign>[<>=!]+)\s*(?P<number>[^\s%]+)\s*(?P<percent>%?)\s*"
)

_NAMED = 6  # types in a text

MET, NOT_MET, UNKNOWN = "holds", "does not hold", "not enough data"


@dataclass(frozen=True)
class Condition:
    """Compares a measure with a number.

    Attributes:
        where: a glob of layer names or types whose layers are judged one by one; None: the whole
            model.
        of: "max" or "mean" where the layers are taken together, None where not.
    """

    measure: str
    operator: str
    number: float
    where: str | None = None
    of: str | None = None

    def __str__(self) -> str:
        name = f"{self.of}({self.measure})" if self.of else self.measure
        where = "" if self.where is None else f"@{self.where}"
        return f"{name}{where}{self.operator}{self.number:.12g}"

    def judge(
        self, measures: Mapping[str, Measure], layers: Sequence[LayerMeasures] = ()
    ) -> Outcome:
        """Judge whether the condition holds.

        Args:
            measures: of the whole model, `Diagnosis.measures`.
            layers: the same of each layer, `Diagnosis.by_layer`.

        Raises:
            FmstatsError: the measure is that of a rule which was not applied.
        """
        if self.measure not in measures:
            raise FmstatsError(
                f"condition {str(self)!r} needs the rule {self.measure!r}, which was not applied: "
                f"measured are {', '.join(measures)}"
            )
        if self.where is None:
            return self._judge_one(measures[self.measure])
        found = [layer for layer in layers if layer.matches(self.where)]
        if not found:
            types = name_some(list(dict.fromkeys(layer.type for layer in layers)), _NAMED)
            return self._lack(
                f"no layer has a name or a type that matches {self.where!r}; types are {types}"
            )
        having = [layer for layer in found if self.measure in layer.measures]
        if not having:
            return self._lack(f"the rule is about none of the layers that match {self.where!r}")
        if self.of == "mean":
            return self._judge_one(pool_measures(having, self.measure))
        outcomes = [self._judge_one(layer.measures[self.measure], layer.name) for layer in having]
        return min(outcomes, key=self._rank)

    def _judge_one(self, measure: Measure, layer: str | None = None) -> Outcome:
        compare = _OPERATORS[self.operator]
        # Each comparison is monotone but for equality, which is certain at a single point alone.
        ends = {compare(measure.at_least, self.number), compare(measure.most, self.number)}
        inside = measure.at_least < self.number < measure.most and self.operator in ("==", "!=")
        sure = len(ends) == 1 and not inside
        verdict = (MET if ends.pop() else NOT_MET) if sure else UNKNOWN
        return Outcome(str(self), verdict, measure, layer)

    def _rank(self, outcome: Outcome) -> tuple[int, float]:
        """Order outcomes of layers: those that fail first, then the nearest to failing."""
        measure = outcome.measure
        far = measure.most if self.operator in ("<", "<=") else -measure.at_least
        return (MET, UNKNOWN, NOT_MET).index(outcome.verdict), far

    def _lack(self, reason: str) -> Outcome:
        share = self.measure not in COUNTED
        unit = "share" if share else COUNTED[self.measure]
        lacking = Measure(None, 0.0 if share else 0, 1.0 if share else None, unit, reason)
        return Outcome(str(self), UNKNOWN, lacking)


@dataclass(frozen=True)
class Outcome:
    """Holds the verdict on one condition.

    Attributes:
        verdict: "holds", "does not hold" or "not enough data".
        layer: the layer that decides, where layers are judged one by one.
    """

    condition: str
    verdict: str
    measure: Measure
    layer: str | None = None

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
        where = "" if self.layer is None else f"{make_printable(self.layer)}: "
        return f"{self.condition}  {self.verdict}: {where}{seen} ({measure.unit})"


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
        if condition.measure in RULES and condition.measure not in rules:
            raise FmstatsError(
                f"condition {str(condition)!r} needs the rule {condition.measure!r}, which is not "
                f"among those chosen: {', '.join(rules)}"
            )


def _read(text: str) -> Condition:
    match = _FORM.fullmatch(text)
    if match is None:
        raise FmstatsError(
            f"condition {text.strip()!r} is not understood: write MEASURE>NUMBER or "
            "MEASURE@LAYERS>NUMBER, such as dead>0.05, nan>0 or dead@ReLU*>10%, with one of "
            f"{' '.join(_OPERATORS)}"
        )
    name, sign, of, where = (
        match["inner"] or match["name"],
        match["sign"],
        match["of"],
        match["where"],
    )
    if sign not in _OPERATORS:
        raise FmstatsError(
            f"condition {text.strip()!r}: there is no {sign!r}; choose from {' '.join(_OPERATORS)}"
        )
    known = (*COUNTED, *RUN_SHARES, *RULES)
    if name not in known:
        raise FmstatsError(f"condition {text.strip()!r}: {unknown('measure', name, known)}")
    if where == "":
        raise FmstatsError(f"condition {text.strip()!r}: behind '@' stands a layer, a type or '*'")
    if name in OF_RUNS and (where or of):
        raise FmstatsError(f"condition {text.strip()!r}: {name} is of the run, not of layers")
    if name in COUNTED and of == "mean":
        raise FmstatsError(f"condition {text.strip()!r}: {name} is a count; mean() is of shares")
    value = _read_value(text.strip(), name, sign, match["number"], bool(match["percent"]))
    return Condition(name, sign, value, where or ("*" if of else None), of)


def _read_value(text: str, name: str, sign: str, number: str, percent: bool) -> float:
    if percent and name in COUNTED:
        raise FmstatsError(f"condition {text!r}: {name} is a count, not a share")
    value = _number(text, number) / (100 if percent else 1)
    if name not in COUNTED and value > 1:
        hint = "" if percent else f"; {name}{sign}{number}% is a share"
        of = RUN_SHARES.get(name, "share of channels or layers")
        raise FmstatsError(f"condition {text!r}: {name} is a {of}, from 0 to 1{hint}")
    return value


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
