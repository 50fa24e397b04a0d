"""Measure what changed in each channel of a layer that saw the same inputs twice.

The unit is the standard deviation of the baseline, not one of chance: there is no chance. What
rounding explains is no change and counts as 0.
"""

from __future__ import annotations

import numpy as np

from fmstats.drift.distributions import DistributionEffects, Ruler, find_bins
from fmstats.drift.effects import LIMIT, ChannelEffects, measure_effects
from fmstats.drift.rounding import FLIPS, find_beyond, size_of_rounding
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.distribution import Array


def measure_paired_effects(
    now: ChannelStats, baseline: ChannelStats, epsilon: float
) -> ChannelEffects:
    """Compare the channels of one layer on the same inputs.

    The effects are those of `ChannelEffects`, but `shift` is in standard deviations of the
    baseline, and what rounding explains is left out.

    Args:
        now: the layer in question.
        baseline: the same layer before, of as many channels.
        epsilon: the machine epsilon that counts in it.
    """
    plain = measure_effects(now, baseline)
    stds = [np.sqrt(stats.variance(0)) for stats in (now, baseline)]
    ranges = [stats.max - stats.min for stats in (now, baseline)]
    step = now.mean - baseline.mean
    sparsity = plain.sparsity
    unit = size_of_rounding(baseline, epsilon)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        moved = find_beyond(np.abs(step) / unit)
        spread = find_beyond(np.abs(stds[0] - stds[1]) / unit)
        # The extremes are single elements, and large ones: their own size is that of their errors.
        grown = find_beyond(
            np.abs(ranges[0] - ranges[1]) / np.fmax(unit, epsilon * np.fmax(*ranges))
        )
        zeroed = find_beyond(_past_flips(sparsity, baseline.count) * np.fmax(*stds) / unit)
        shift = np.clip(step / stds[1], -LIMIT, LIMIT)
        ratio = np.clip(2 * (np.log(stds[0]) - np.log(stds[1])), -LIMIT, LIMIT)
    return ChannelEffects(
        shift=_keep(shift, moved, step),
        spread=_keep(ratio, spread, step),
        sparsity=_keep(sparsity, zeroed, sparsity),
        growth=np.where(grown | np.isnan(plain.growth), plain.growth, 1.0),
        newly_dead=plain.newly_dead & zeroed,
        revived=plain.revived & zeroed,
        newly_broken=plain.newly_broken,
        non_finite=plain.non_finite,
        broken=plain.broken,
    )


def measure_paired_distribution(
    now: ChannelStats, baseline: ChannelStats, epsilon: float
) -> DistributionEffects | None:
    """Compare the histograms of one layer on the same inputs; None without those of same bins.

    Args:
        now: the layer in question.
        baseline: the same layer before.
        epsilon: the machine epsilon that counts in it.
    """
    bins = find_bins([now, baseline])
    if bins is None:
        return None
    found = Ruler.between(now, baseline).measure(now)
    before = baseline.pooled() if bins.scope == "layer" else baseline
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = _past_flips(found.wasserstein, before.count) * np.sqrt(before.variance(0))
        beyond = find_beyond(errors / size_of_rounding(before, epsilon))
    kept = (_keep(found.of(e), beyond, found.wasserstein) for e in ("wasserstein", "psi", "js"))
    return DistributionEffects(found.scope, *kept)


def _past_flips(change: Array, count: Array) -> Array:
    """Return the size of a change less what few elements that rounding moved make of it."""
    return np.asarray(np.fmax(np.abs(change) - FLIPS / np.maximum(count, 1), 0.0))


def _keep(values: Array, beyond: Array, known: Array) -> Array:
    """Return values where they are beyond rounding, else 0; NaN where nothing is known."""
    return np.where(beyond, values, np.where(np.isnan(known), np.nan, 0.0))
