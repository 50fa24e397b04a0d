"""Measure how far each channel moved from a baseline, in units of its own spread.

An effect size says how large a change is, however many elements were seen. None of them changes
when a channel is rescaled in both profiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.distribution import Array

# Shifts and log ratios end here: a channel that was constant would have infinite ones.
LIMIT = 10.0
# Rounding of the moments: a channel with less spread than this share of its size is constant.
_CONSTANT = 1e-6

EFFECTS = ("shift", "spread", "sparsity")


@dataclass(frozen=True)
class ChannelEffects:
    """Holds the changes of the channels of one layer, as arrays of length C.

    With nothing finite seen on one side, shift, spread and growth are NaN.

    Attributes:
        shift: change of the mean, in standard deviations (root of the mean of both variances).
        spread: ln(variance now / variance of the baseline).
        sparsity: change of the share of zeros, -1 to 1.
        growth: width of the range, max - min, now over that of the baseline; 1: as wide.
        newly_dead, revived: dead now and not before, and the other way round (bool).
        newly_broken: NaN or infinities now, none before (bool).
        non_finite: change of the share of NaN and infinities, -1 to 1.
        broken: the same as an effect size (Cohen's h), -pi to pi: 0.1 is 0.25 % where none were.
    """

    shift: Array
    spread: Array
    sparsity: Array
    growth: Array
    newly_dead: Array
    revived: Array
    newly_broken: Array
    non_finite: Array
    broken: Array

    def of(self, effect: str) -> Array:
        """Return the changes of one kind by name, such as one of `EFFECTS`."""
        values: Array = getattr(self, effect)
        return values

    @property
    def log_std(self) -> Array:
        """Return ln(standard deviation now / standard deviation of the baseline)."""
        return self.spread / 2

    @property
    def log_range(self) -> Array:
        """Return ln(`growth`), from -`LIMIT` to `LIMIT`."""
        with np.errstate(divide="ignore"):
            return np.clip(np.log(self.growth), -LIMIT, LIMIT)


def measure_effects(now: ChannelStats, baseline: ChannelStats) -> ChannelEffects:
    """Compare the channels of one layer, which both have as many of."""
    moved = standardise(now, baseline)
    shares = [1 - share_finite(stats) for stats in (now, baseline)]
    angles = [2 * np.arcsin(np.sqrt(share)) for share in shares]
    return ChannelEffects(
        **moved,
        growth=_growth(now.max - now.min, baseline.max - baseline.min),
        newly_dead=now.dead & ~baseline.dead,
        revived=baseline.dead & ~now.dead,
        newly_broken=(now.finite_count < now.count) & (baseline.finite_count == baseline.count),
        non_finite=shares[0] - shares[1],
        broken=angles[0] - angles[1],
    )


def share_finite(stats: ChannelStats) -> Array:
    """Return the share of finite elements of each channel; 1 where nothing was seen."""
    return np.where(stats.count > 0, stats.finite_count / np.maximum(stats.count, 1), 1.0)


def standardise(now: ChannelStats, baseline: ChannelStats) -> dict[str, Array]:
    """Return by name the three effects that have a noise level; see `ChannelEffects`."""
    first, second = now.variance(0), baseline.variance(0)
    size = np.maximum(np.abs(now.mean), np.abs(baseline.mean))
    floor = np.square(_CONSTANT * size)
    first, second = (np.where(var > floor, var, 0.0 * var) for var in (first, second))
    step = now.mean - baseline.mean
    step = np.where(np.abs(step) > _CONSTANT * size, step, 0.0 * step)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(step == 0, 0.0, step / np.sqrt((first + second) / 2))
        spread = np.where(first == second, 0.0, np.log(first) - np.log(second))
    return {
        "shift": np.clip(shift, -LIMIT, LIMIT),
        "spread": np.clip(spread, -LIMIT, LIMIT),
        "sparsity": now.sparsity - baseline.sparsity,
    }


def _growth(now: Array, before: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(now == before, 1.0, now / before)
