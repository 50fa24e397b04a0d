"""Find channels whose elements lie at the bounds of their activation."""

from __future__ import annotations

from functools import partial

import numpy as np

from fmstats.diagnosis.kinds import is_gate
from fmstats.diagnosis.observed import FindingText, Mask, Observed, Verdict, enough, name_channels
from fmstats.diagnosis.thresholds import RuleThresholds
from fmstats.statistic.distribution import Array

# Some channels of a healthy layer are at a bound, too: a warning is of a tenth of them or more.
_MANY = 0.1
# Gates and shares, which are between 0 and 1, are made to end there. But a gate that is at one end
# in so many of its channels does nothing, whatever goes in.
_ALL = 0.9


def _at_one_bound(layer: Observed, thresholds: RuleThresholds, *, high: bool) -> Verdict | None:
    bounds, stats = layer.stats.thresholds, layer.stats
    bound = bounds.high if high else bounds.low
    if bound is None:
        return None
    judged, limit = enough(layer, thresholds), thresholds["saturated"]
    share = _share(stats.sat_high if high else stats.sat_low, stats.count)
    hit = judged & (share > limit)
    least = _ALL if is_gate(layer) else _MANY
    where_at = f"{bound:g} or {'above' if high else 'below'}"

    def describe(where: Mask) -> FindingText:
        message = (
            f"{name_channels(where)}: at {where_at} in more than {100 * limit:g} % of the elements"
        )
        numbers = {"bound": bound, "share": float(share[where].min())}
        return FindingText(message, numbers, _grade(where, least))

    return Verdict(judged, hit, describe)


saturated_low = partial(_at_one_bound, high=False)
saturated_high = partial(_at_one_bound, high=True)


def saturated_both(layer: Observed, thresholds: RuleThresholds) -> Verdict | None:
    """Find channels with most elements at either bound, but not most of them at one alone."""
    bounds, stats = layer.stats.thresholds, layer.stats
    if bounds.low is None or bounds.high is None:
        return None
    judged, limit = enough(layer, thresholds), thresholds["saturated"]
    low, high = _share(stats.sat_low, stats.count), _share(stats.sat_high, stats.count)
    hit = judged & (low + high > limit) & (low <= limit) & (high <= limit)

    def describe(where: Mask) -> FindingText:
        severity = "info" if is_gate(layer) else _grade(where, _MANY)
        message = (
            f"{name_channels(where)}: at {bounds.low:g} or at {bounds.high:g} in more than "
            f"{100 * limit:g} % of the elements"
        )
        least = float((low + high)[where].min())
        numbers = {"low": bounds.low, "high": bounds.high, "share": least}
        return FindingText(message, numbers, severity)

    return Verdict(judged, hit, describe)


def _grade(where: Mask, least: float) -> str:
    return "warning" if where.mean() >= least else "info"


def _share(part: Array, whole: Array) -> Array:
    return np.asarray(part / np.maximum(whole, 1))
