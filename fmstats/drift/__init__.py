"""Measure how far a model's statistics have moved from a baseline, relative to chance.

`compare` pairs the layers (`matching`), measures effect sizes per channel (`effects`), relates
those of each layer to what chance gives (`layers`, `noise`), and sums up (`comparison`). Where both
profiles have histograms it measures effects of distributions as well (`distributions`). Of profiles
that saw the same inputs, nothing is chance but rounding (`paired`, `paired_effects`, `rounding`).
"""

from __future__ import annotations

from fmstats.drift.baselines import Baseline
from fmstats.drift.compare import ASSUMED_THRESHOLD, LEAST_SHARDS, THRESHOLD, compare
from fmstats.drift.comparison import Comparison
from fmstats.drift.distributions import DistributionEffects
from fmstats.drift.effects import ChannelEffects
from fmstats.drift.layers import LayerDrift

__all__ = [
    "ASSUMED_THRESHOLD",
    "LEAST_SHARDS",
    "THRESHOLD",
    "Baseline",
    "ChannelEffects",
    "Comparison",
    "DistributionEffects",
    "LayerDrift",
    "compare",
]
