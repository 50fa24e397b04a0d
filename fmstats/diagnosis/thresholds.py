"""Define the thresholds of all rules, with their meanings, defaults and ranges."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fmstats.errors import FmstatsError, find_closest
from fmstats.statistic.channel_stats import DEAD_SPARSITY

RuleThresholds = Mapping[str, float]


@dataclass(frozen=True)
class RuleThreshold:
    """Describes a number that rules compare with.

    Attributes:
        default: used where nothing else is set.
        least, most: the range it may be set in, both included.
        meaning: one sentence for people.
    """

    default: float
    least: float
    most: float
    meaning: str


# 300 by the rule of three: a channel that is active in 1 % of its elements stays silent in 300
# independent ones with a probability of 5 %.
RULE_THRESHOLDS: dict[str, RuleThreshold] = {
    "elements": RuleThreshold(
        300,
        1,
        math.inf,
        "elements that a channel, or a layer where a rule judges whole layers, must have shown",
    ),
    "samples": RuleThreshold(10, 1, math.inf, "samples that a layer must have seen"),
    "dead": RuleThreshold(DEAD_SPARSITY, 0, 1, "a larger share of zeros makes a channel dead"),
    "constant": RuleThreshold(
        1e-6, 0, 1, "largest spread, max - min, of a constant channel, as a share of its abs_max"
    ),
    "sparse": RuleThreshold(0.95, 0, 1, "a larger share of zeros makes a layer sparse"),
    "saturated": RuleThreshold(
        0.5, 0, 1, "a larger share of elements at a bound saturates a channel"
    ),
    "switch": RuleThreshold(
        0.9,
        0,
        1,
        "(1 + skewness^2) / kurtosis, 1 of two values alone, above which a gate is a switch",
    ),
    "growth": RuleThreshold(
        30, 1, math.inf, "factor of the scale along depth, or in one step, that is too much"
    ),
    "unusual": RuleThreshold(
        3, 0, math.inf, "robust standard deviations of one step that a change of scale must exceed"
    ),
    "depth": RuleThreshold(4, 3, math.inf, "layers that are compared with each other along depth"),
    "collapsed": RuleThreshold(
        1e-3, 0, 1, "a smaller std, as a share of the rms, in the usual channel is a collapse"
    ),
    "concentrated": RuleThreshold(
        0.99, 0, 1, "a larger share of elements within an eighth of each other is a collapse"
    ),
    "identical": RuleThreshold(
        0.5, 0, 1, "a larger share of channels that are alike is a failure of symmetry"
    ),
    "headroom": RuleThreshold(
        2, 1, math.inf, "factor that abs_max must stay below the largest number of a format"
    ),
    "underflow": RuleThreshold(
        0.5, 0, 1, "a larger share of the nonzero elements, where counted, that lose digits"
    ),
    "outlier": RuleThreshold(
        6, 0, math.inf, "robust standard deviations of log rms that an outlier is off the median"
    ),
    "outlier-ratio": RuleThreshold(
        10, 1, math.inf, "factor between an outlier's rms and the median of its layer"
    ),
    "tails": RuleThreshold(
        100, 1, math.inf, "kurtosis of the elements that are not 0, above which tails are heavy"
    ),
    "channels": RuleThreshold(8, 3, math.inf, "channels that a layer's median takes"),
    "steps": RuleThreshold(
        10, 1, math.inf, "steps of the optimizer that a parameter must have been measured in"
    ),
    "update": RuleThreshold(
        0.1, 0, math.inf, "rms of updates over that of weights, above which updates are large"
    ),
}


def choose_thresholds(given: Mapping[str, float] | None) -> dict[str, float]:
    """Return every threshold, as given or else its default.

    Raises:
        FmstatsError: an unknown name, or a number out of its range.
    """
    if given is not None and not isinstance(given, Mapping):
        raise FmstatsError(f"thresholds={given!r}: give a mapping of names to numbers")
    thresholds = {name: threshold.default for name, threshold in RULE_THRESHOLDS.items()}
    for name, value in (given or {}).items():
        if name not in RULE_THRESHOLDS:
            raise FmstatsError(unknown("threshold", name, RULE_THRESHOLDS))
        thresholds[name] = _checked(name, value)
    return thresholds


def unknown(kind: str, name: object, choices: Iterable[str]) -> str:
    """Return an error message for an unknown name, with the closest name and all choices."""
    near = find_closest(str(name), choices, count=1)
    hint = f"; closest: {near[0]}" if near else ""
    return f"there is no {kind} {name!r}{hint}; choose from {', '.join(choices)}"


def _checked(name: str, value: object) -> float:
    threshold = RULE_THRESHOLDS[name]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and threshold.least <= value <= threshold.most and math.isfinite(value)):  # type: ignore[operator, arg-type]
        most = "" if math.isinf(threshold.most) else f", at most {threshold.most:g}"
        raise FmstatsError(
            f"threshold {name}={value!r}: give a finite number, at least {threshold.least:g}{most}"
        )
    return float(value)  # type: ignore[arg-type]
