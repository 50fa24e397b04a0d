"""Verdicts on a profile: small rules, each a function from one layer to a finding or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fmstats.derived import DEAD_SPARSITY
from fmstats.profiles import LayerProfile, Profile

SATURATED_CHANNEL = (
    0.5  # share of a channel's elements at a bound from which it counts as saturated
)
SHOWN = 8  # channel numbers named in a message


@dataclass(frozen=True)
class Finding:
    """One thing found in one layer.

    Attributes:
        severity: "info", "warning" or "error".
        message: what was seen, with the channels it was seen in.
    """

    layer: str
    rule: str
    severity: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity:<8} {self.layer}  {self.rule}: {self.message}"


@dataclass(frozen=True)
class Diagnosis:
    """All findings, gravest first, then in the order of execution; false if there are none."""

    findings: list[Finding]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings)) or "nothing found"


def diagnose(profile: Profile) -> Diagnosis:
    """Apply every rule of `RULES` to every layer."""
    findings = []
    for name, layer in profile.info.items():
        for rule, (severity, judge) in RULES.items():
            message = judge(layer)
            if message is not None:
                findings.append(Finding(name, rule, severity, message))
    gravest = ("error", "warning", "info")
    return Diagnosis(sorted(findings, key=lambda f: gravest.index(f.severity)))


def _non_finite(layer: LayerProfile) -> str | None:
    stats = layer.stats
    nan, inf = int(stats.nan.sum()), int((stats.pos_inf + stats.neg_inf).sum())
    if nan + inf == 0:
        return None
    bad = stats.nan + stats.pos_inf + stats.neg_inf > 0
    return f"{nan} NaN and {inf} infinite of {int(stats.count.sum())} elements, {_name(bad)}"


def _never_active(layer: LayerProfile) -> str | None:
    silent = layer.stats.never_active
    if not silent.any():
        return None
    least = layer.stats.finite_count[silent].min()
    return f"{_name(silent)}: exactly 0 in each of {least:,} finite elements"


def _dead(layer: LayerProfile) -> str | None:
    dead = layer.stats.dead & ~layer.stats.never_active
    if not dead.any():
        return None
    return f"{_name(dead)}: 0 in more than {DEAD_SPARSITY:.0%} of the elements"


def _saturated(layer: LayerProfile) -> str | None:
    share = layer.stats.saturated
    if share is None:
        return None
    with np.errstate(invalid="ignore"):
        stuck = share > SATURATED_CHANNEL
    if not stuck.any():
        return None
    t = layer.stats.thresholds
    bounds = " or ".join(f"{b:g}" for b in (t.low, t.high) if b is not None)
    return f"{_name(stuck)}: at {bounds} in more than {SATURATED_CHANNEL:.0%} of the elements"


def _name(where: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
    channels = np.flatnonzero(where)
    named = ", ".join(map(str, channels[:SHOWN])) + (", ..." if len(channels) > SHOWN else "")
    plural = "s" if len(channels) > 1 else ""
    return f"{len(channels)} of {len(where)} channels (number{plural} {named})"


RULES: dict[str, tuple[str, Callable[[LayerProfile], str | None]]] = {
    "non-finite": ("error", _non_finite),
    "never active": ("warning", _never_active),
    "dead": ("warning", _dead),
    "saturated": ("warning", _saturated),
}
