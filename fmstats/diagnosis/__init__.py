"""Verdicts on a profile: rules, what they find, and conditions to fail on. See docs/diagnose.md."""

from __future__ import annotations

from fmstats.diagnosis.apply import diagnose
from fmstats.diagnosis.conditions import Condition, Outcome, read_conditions
from fmstats.diagnosis.findings import Finding, NotEnoughData
from fmstats.diagnosis.limits import THRESHOLDS
from fmstats.diagnosis.measures import Measure
from fmstats.diagnosis.result import Diagnosis
from fmstats.diagnosis.rules import RULES, SEVERITIES, Rule

__all__ = [
    "RULES",
    "SEVERITIES",
    "THRESHOLDS",
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
