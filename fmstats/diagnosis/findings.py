"""Define what a rule reports: a finding in a layer, or a lack of data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fmstats.diagnosis.observed import Numbers


@dataclass(frozen=True)
class Finding:
    """Reports one rule that holds in one layer.

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

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.ReLU())
        >>> profile = fmstats.profile(model, -torch.rand(400, 2), progress=False)
        >>> finding = fmstats.diagnose(profile, rules="never-active").findings[0]
        >>> finding.layer, finding.severity, finding.channels
        ('0', 'warning', (0, 1))
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
    """Reports a rule that could not judge a layer, or some of its channels.

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
