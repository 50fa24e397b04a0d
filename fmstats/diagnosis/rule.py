"""Define what a rule is: a pure function of layers and thresholds, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fmstats.diagnosis.observed import Observed, Verdict
from fmstats.diagnosis.thresholds import RuleThresholds
from fmstats.profiles.updates import OF_PARAMETERS

SEVERITIES = ("error", "warning", "info")  # gravest first

ACTIVATIONS = frozenset(("output", "input", "grad_output"))  # what rows of layers can be of
PARAMETERS = frozenset((OF_PARAMETERS,))

Judge = Callable[[Sequence[Observed], RuleThresholds], list[Verdict | None]]


@dataclass(frozen=True)
class Rule:
    """Describes one rule.

    Attributes:
        severities: what its findings can be, the usual one first.
        condition: when it holds, in words, with the names of thresholds.
        thresholds: what it compares with, by name in
            `fmstats.diagnosis.thresholds.RULE_THRESHOLDS`.
        advice: what to do.
        judge: a verdict on each layer, in the order of execution; None where it does not apply.
        unit: what it judges, "channels" or whole "layers".
        source: where the rule or its threshold comes from.
        family: findings of one family on the same channels, layer after layer, form one group.
        yields_to: rules that say more of a channel; this rule does not repeat their hits.
        needs: the measure that it judges by, of those that are made on request.
        dtype: unless it is asked for, it judges only the layers that run in this dtype; None: all.
        among: which layers its share is a share of, beside those in which it finds something new;
            None: all that it applies to. It may judge more layers than that.
        of: what the profile must be of, as its metadata say.
    """

    severities: tuple[str, ...]
    condition: str
    thresholds: tuple[str, ...]
    meaning: str
    advice: str
    judge: Judge
    unit: str = "channels"
    source: str = "own choice"
    family: str | None = None
    yields_to: tuple[str, ...] = ()
    needs: str | None = None
    dtype: str | None = None
    among: Callable[[Observed], bool] | None = None
    of: frozenset[str] = ACTIVATIONS


def each_layer(judge: Callable[[Observed, RuleThresholds], Verdict | None]) -> Judge:
    """Make a rule for all layers from a rule for one layer."""
    return lambda layers, thresholds: [judge(layer, thresholds) for layer in layers]
