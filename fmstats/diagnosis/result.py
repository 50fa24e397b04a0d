"""What a diagnosis says: findings, what could not be judged, and measures of the whole model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fmstats.diagnosis.measures import Measure
from fmstats.diagnosis.observed import Numbers
from fmstats.diagnosis.text import format_diagnosis

SCHEMA = 1  # of `Diagnosis.to_dict`


@dataclass(frozen=True)
class Finding:
    """One rule that holds in one layer.

    Attributes:
        layer: the layer's name.
        type: its module's class name.
        rule: a name in `fmstats.diagnosis.RULES`.
        severity: "error", "warning" or "info".
        message: what was seen, with the channels it was seen in.
        channels: their numbers; empty for a finding on the whole layer.
        width: the number of channels that the layer has.
        evidence: `calls` of the layer, about how many `samples` it saw, `elements` seen (the least
            of any of these channels), then the numbers of the rule.
        thresholds: what was compared with.
        advice: what to do.
        follows: the layer before it whose finding this one repeats, None if it is the first.
    """

    layer: str
    type: str
    rule: str
    severity: str
    message: str
    channels: tuple[int, ...]
    width: int
    evidence: Numbers
    thresholds: Mapping[str, float]
    advice: str
    follows: str | None = None

    def __str__(self) -> str:
        return f"{self.severity:<8} {self.layer}  {self.rule}: {self.message}"


@dataclass(frozen=True)
class NotEnoughData:
    """A rule that could not judge a layer, or some of its channels.

    Attributes:
        layer: the layer's name.
        rule: a name in `fmstats.diagnosis.RULES`.
        channels: how many; None for a rule that judges whole layers.
        reason: what was seen, and what is needed.
    """

    layer: str
    rule: str
    channels: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.layer}  {self.rule}: not enough data, {self.reason}"


@dataclass(frozen=True)
class Diagnosis:
    """All findings, gravest first, then in the order of execution; false if there are none.

    Attributes:
        findings: what holds, and where.
        not_enough_data: where a rule says neither yes nor no.
        rules: the names of the rules that were applied.
        thresholds: every threshold by name.
        measures: numbers of the whole model by name, as `--fail-on` takes them.
        layers: how many layers the profile has.
    """

    findings: list[Finding]
    not_enough_data: list[NotEnoughData]
    rules: tuple[str, ...]
    thresholds: Mapping[str, float]
    measures: Mapping[str, Measure]
    layers: int

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        return format_diagnosis(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, the schema of docs/diagnose.md."""
        return {
            "schema": SCHEMA,
            "layers": self.layers,
            "rules": list(self.rules),
            "thresholds": dict(self.thresholds),
            "measures": {name: asdict(measure) for name, measure in self.measures.items()},
            "findings": [
                {**asdict(finding), "channels": list(finding.channels)} for finding in self.findings
            ],
            "not_enough_data": [asdict(row) for row in self.not_enough_data],
        }
