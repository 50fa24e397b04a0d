"""Find channels whose scale is far from that of their layer."""

from __future__ import annotations

import numpy as np

from fmstats.diagnosis.observed import FindingText, Mask, Observed, Verdict, enough, name_channels
from fmstats.diagnosis.robust import estimate_deviation
from fmstats.diagnosis.thresholds import RuleThresholds


def outlier(layer: Observed, thresholds: RuleThresholds) -> Verdict | None:
    """Find channels whose rms is far above or below the median of the layer.

    In robust units: |log(rms / median)| over the deviation that the median of these distances
    gives (Iglewicz and Hoaglin 1993). Channels that are 0 everywhere have no scale and do not take
    part.
    """
    if layer.stats.channels < thresholds["channels"]:
        return None
    rms = layer.stats.rms
    judged = enough(layer, thresholds)
    part = judged.copy()
    part[part] = (rms[part] > 0) & np.isfinite(rms[part])
    log = np.zeros_like(rms)
    log[part] = np.log(rms[part])

    def describe(where: Mask) -> FindingText:
        middle = np.median(log[part])
        ratio = np.exp(log - middle)
        above, below = where & (log > middle), where & (log < middle)
        words = []
        if above.any():
            words.append(f"{int(above.sum())} with an rms up to {ratio[above].max():.4g}")
        if below.any():
            words.append(f"{int(below.sum())} with an rms down to {ratio[below].min():.4g}")
        numbers = {
            "median_rms": float(np.exp(middle)),
            "largest_ratio": float(ratio[where].max()),
            "smallest_ratio": float(ratio[where].min()),
        }
        return FindingText(
            f"{name_channels(where)}: {', '.join(words)} times the layer's median", numbers
        )

    if part.sum() < thresholds["channels"]:
        few = f"{int(part.sum())} channels with a scale seen, {thresholds['channels']:g} needed"
        none = np.zeros_like(part)
        return Verdict(none, none, describe, few if judged.all() else None)
    distance = np.abs(log - np.median(log[part]))
    unit = estimate_deviation(log[part])
    far = (distance > thresholds["outlier"] * unit) & (
        distance > np.log(thresholds["outlier-ratio"])
    )
    return Verdict(judged, part & far, describe)
