"""Choose the rules of a diagnosis, and the float formats that it asks about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fmstats.diagnosis.conditions import Condition
from fmstats.diagnosis.formats import FORMATS
from fmstats.diagnosis.observed import Observed, Verdict
from fmstats.diagnosis.rules import RULES, list_rules
from fmstats.diagnosis.thresholds import RuleThresholds, unknown
from fmstats.errors import FmstatsError

_RULES_OF_FORMATS = {form.name: f"range-{form.name}" for form in FORMATS}


@dataclass(frozen=True)
class Choice:
    """Holds the rules to apply.

    Attributes:
        rules: their names, in the order of the registry.
        asked: those that were asked for by name, or by a format's.
    """

    rules: tuple[str, ...]
    asked: frozenset[str]

    def judge(
        self, name: str, layers: Sequence[Observed], thresholds: RuleThresholds
    ) -> list[Verdict | None]:
        """Return what a rule says of each layer; None where it does not apply, or none asked."""
        dtype = None if name in self.asked else RULES[name].dtype
        meant = [
            layer.of in RULES[name].of and (dtype is None or layer.profile.dtype == dtype)
            for layer in layers
        ]
        if not any(meant):  # to judge histograms takes time
            return [None] * len(layers)
        verdicts = RULES[name].judge(layers, thresholds)
        return [verdict if own else None for verdict, own in zip(verdicts, meant, strict=True)]


def choose_rules(
    given: Iterable[str] | None, formats: Iterable[str] = (), of: str = "output"
) -> Choice:
    """Choose rules by name, and by the formats that layers may be cast to.

    Args:
        given: names; None: all that are about such profiles.
        formats: names of float formats.
        of: what the profile is of, as its metadata say.

    Raises:
        FmstatsError: an unknown name, or none at all.
    """
    of_formats = {_find_rule(name) for name in _names(formats)}
    if given is None:
        return Choice(list_rules(of), frozenset(of_formats))
    named = _names(given)
    for name in named:
        if name not in RULES:
            raise FmstatsError(unknown("rule", name, RULES))
    if not named:
        raise FmstatsError(f"rules=[]: choose from {', '.join(RULES)}, or None for all")
    asked = of_formats.union(named)
    return Choice(tuple(name for name in RULES if name in asked), frozenset(asked))


def name_formats(conditions: Iterable[Condition]) -> list[str]:
    """Return the formats that conditions ask about: who compares a measure wants it."""
    asked = {condition.measure for condition in conditions}
    return [name for name, rule in _RULES_OF_FORMATS.items() if rule in asked]


def _names(given: Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _find_rule(name: str) -> str:
    if name not in _RULES_OF_FORMATS:
        raise FmstatsError(unknown("format", name, _RULES_OF_FORMATS))
    return _RULES_OF_FORMATS[name]
