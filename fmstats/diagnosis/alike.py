"""Find layers whose output hardly depends on the input, and channels with equal statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from fmstats.diagnosis.observed import (
    FindingText,
    Mask,
    Observed,
    Verdict,
    enough,
    enough_whole,
    is_constant,
    name_channels,
)
from fmstats.diagnosis.thresholds import RuleThresholds
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.distribution import Array

# Sums in another order give the moments of the same values to about this share of their size.
_ROUNDING = 1e-5


def collapsed(layers: Sequence[Observed], thresholds: RuleThresholds) -> list[Verdict | None]:
    """Find layers whose median channel hardly varies relative to its own size."""
    verdicts: list[Verdict | None] = []
    first: str | None = None
    for layer in layers:
        judged = enough_whole(layer, thresholds)
        ratio = _usual_variation(layer, thresholds)
        hit = judged & (ratio < thresholds["collapsed"])
        verdicts.append(Verdict(judged, hit, partial(_describe, ratio=ratio, first=first)))
        first = (first or layer.name) if hit[0] else None
    return verdicts


def _usual_variation(layer: Observed, thresholds: RuleThresholds) -> float:
    """Return the median of std / rms over the channels that vary at all; NaN if none does."""
    stats = layer.stats
    vary = enough(layer, thresholds) & ~is_constant(layer, thresholds) & ~stats.never_active
    if not vary.any():
        return math.nan
    return float(np.median(np.sqrt(stats.variance(0)[vary]) / stats.rms[vary]))


def _describe(where: Mask, ratio: float, first: str | None) -> FindingText:
    message = (
        f"std is {ratio:.3g} of the rms in the channel in the middle: what differs between inputs "
        "is lost beside what does not"
    )
    return FindingText(message, {"variation": ratio}, follows=first)


def identical(layer: Observed, thresholds: RuleThresholds) -> Verdict | None:
    """Find channels that share their moments and extrema with most channels of their layer."""
    if layer.stats.channels < thresholds["channels"]:
        return None
    judged = enough(layer, thresholds)
    vary = judged & ~is_constant(layer, thresholds) & ~layer.stats.never_active
    twins = np.zeros_like(judged)
    if vary.any():
        chosen = np.flatnonzero(vary)[_largest_group(layer.stats, vary)]
        if len(chosen) > max(thresholds["identical"] * layer.stats.channels, 1):
            twins[chosen] = True

    def describe(where: Mask) -> FindingText:
        mean, std = float(layer.stats.mean[where][0]), float(layer.stats.std[where][0])
        message = f"{name_channels(where)}: all with mean {mean:.4g} and std {std:.4g}"
        return FindingText(message, {"mean": mean, "std": std})

    return Verdict(judged, twins, describe)


def _largest_group(stats: ChannelStats, chosen: Mask) -> Array:
    """Return the largest set of channels, among `chosen`, with the same numbers up to rounding."""
    size = stats.abs_max[chosen]
    numbers = np.stack([size, *(getattr(stats, n)[chosen] for n in ("mean", "std", "min", "max"))])
    order = np.lexsort(numbers[::-1])
    steps = np.abs(np.diff(numbers[:, order], axis=1)) > _ROUNDING * size[order][1:]
    groups = np.split(order, np.flatnonzero(steps.any(0)) + 1)
    return max(groups, key=len)
