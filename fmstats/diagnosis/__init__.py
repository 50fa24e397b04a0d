"""Judge a profile by rules; docs/diagnose.md describes them."""

from __future__ import annotations

import warnings

from fmstats.diagnosis.apply import diagnose
from fmstats.diagnosis.conditions import Condition, Outcome, read_conditions
from fmstats.diagnosis.findings import Finding, NotEnoughData
from fmstats.diagnosis.measures import Measure
from fmstats.diagnosis.result import Diagnosis
from fmstats.diagnosis.rule import SEVERITIES, Rule
from fmstats.diagnosis.rules import RULES
from fmstats.diagnosis.thresholds import RULE_THRESHOLDS

__all__ = [
    "RULES",
    "RULE_THRESHOLDS",
    "SEVERITIES",
    "Condition",
    "Diagnosis",
    "Finding",
    "Measure",
    "NotEnoughData",
    "Outcome",
    "Rule",
    "diagnose",
    "read_conditions",
]


def __getattr__(name: str) -> object:
    """Return `RULE_THRESHOLDS` by the name that it had in fmstats 0.1."""
    if name != "THRESHOLDS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    text = "fmstats.diagnosis.THRESHOLDS is deprecated: it is called RULE_THRESHOLDS"
    warnings.warn(text, DeprecationWarning, stacklevel=2)
    return RULE_THRESHOLDS
