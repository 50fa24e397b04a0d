"""Measure what changed in one layer, and how that compares with chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmstats.drift.distributions import DISTRIBUTION, DistributionEffects, Ruler, find_bins
from fmstats.drift.effects import (
    EFFECTS,
    ChannelEffects,
    measure_effects,
    share_finite,
    standardise,
)
from fmstats.drift.noise import NEGLIGIBLE, assume_level, surprise
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.distribution import Array


@dataclass(frozen=True)
class LayerDrift:
    """Holds the comparison of one layer.

    Attributes:
        score: its changes over what chance gives, root mean square of `scores`; NaN for too few
            elements.
        scores: the same by effect, without effects that the layer does not have.
        effects: of its channels.
        distribution: effects of its distributions; None where they were not measured on both sides.
    """

    layer: str
    type: str
    score: float
    scores: dict[str, float]
    effects: ChannelEffects
    distribution: DistributionEffects | None = None

    @property
    def score_of_moments(self) -> float:
        """Return what the score would be without effects of distributions."""
        kept = [score for name, score in self.scores.items() if name in EFFECTS]
        return self.score if np.isnan(self.score) else _size(np.array(kept or [0.0]))

    def row(self) -> dict[str, Any]:
        """Return the root mean square over channels of each effect, and counts of channels.

        Effects of distributions are there where they were measured.
        """
        e = self.effects
        sizes = {effect: _size(e.of(effect)) for effect in EFFECTS}
        growth = e.growth[np.isfinite(e.growth)]
        return {
            "layer": self.layer,
            "type": self.type,
            "score": _plain(self.score),
            **{effect: _plain(size) for effect, size in sizes.items()},
            "growth": _plain(float(np.median(growth))) if growth.size else None,
            **{effect: _plain(_size(values)) for effect, values in self._of_distribution().items()},
            "newly_dead": int(e.newly_dead.sum()),
            "revived": int(e.revived.sum()),
            "newly_broken": int(e.newly_broken.sum()),
            "broken": float(np.abs(e.broken).max(initial=0.0)),
        }

    def channels(self) -> list[dict[str, Any]]:
        """Return a row per channel with every effect, and the `size` that ranks it.

        The size is the largest of |shift|, |spread| / 2 (the change of the standard deviation, in
        e-folds), |sparsity| and |broken|. Effects of distributions are there, and `wasserstein`
        counts as well, where each channel has a histogram.
        """
        e = self.effects
        own = self._of_distribution() if self._knows_channels else {}
        sizes = np.fmax.reduce([np.abs(values) for values in self.ranking().values()])
        return [
            {
                "layer": self.layer,
                "channel": channel,
                "size": _plain(float(sizes[channel])),
                **{effect: _plain(float(e.of(effect)[channel])) for effect in EFFECTS},
                "growth": _plain(float(e.growth[channel])),
                **{effect: _plain(float(values[channel])) for effect, values in own.items()},
                "newly_dead": bool(e.newly_dead[channel]),
                "revived": bool(e.revived[channel]),
                "newly_broken": bool(e.newly_broken[channel]),
                "non_finite": _plain(float(e.non_finite[channel])),
                "broken": _plain(float(e.broken[channel])),
            }
            for channel in range(len(sizes))
        ]

    def ranking(self) -> dict[str, Array]:
        """Return by name what ranks channels, of length C each."""
        e = self.effects
        ranking = {name: e.of(name) for name in ("shift", "log_std", "sparsity", "broken")}
        own = self._of_distribution() if self._knows_channels else {}
        return ranking | {name: own[name] for name in ("wasserstein",) if name in own}

    @property
    def _knows_channels(self) -> bool:
        return self.distribution is not None and self.distribution.scope == "channel"

    def _of_distribution(self) -> dict[str, Array]:
        found = self.distribution
        return {} if found is None else {effect: found.of(effect) for effect in DISTRIBUTION}


@dataclass(frozen=True)
class Evidence:
    """Says how many samples there are.

    Attributes:
        now, baseline: samples in the profiles.
        shards: samples in each shard; empty without calibration.
    """

    now: int
    baseline: int
    shards: tuple[int, ...] = ()

    @property
    def share(self) -> float:
        """Return the variance of an effect between the profiles, for a variance of 1 per sample."""
        return 1 / self.now + 1 / self.baseline


def compare_layer(
    layer: str,
    kind: str,
    now: ChannelStats,
    baseline: ChannelStats,
    shards: Sequence[ChannelStats],
    evidence: Evidence,
    least_elements: int,
) -> LayerDrift:
    """Compare one layer of two profiles; it scores if its channels have enough elements.

    A channel counts by the share of its elements that is finite, on the side where that is less:
    what is left of one that is mostly NaN says little.
    """
    effects = measure_effects(now, baseline)
    counts = [stats.finite_count for stats in (now, baseline)]
    enough = np.minimum(*counts) >= least_elements
    weights = np.minimum(share_finite(now), share_finite(baseline))
    moved = [standardise(shard, baseline) for shard in shards]
    rows = {e: np.stack([effects.of(e), *(m[e] for m in moved)]) for e in EFFECTS}
    scores = {
        effect: _score(effect, _keep(of_effect, enough, weights), evidence)
        for effect, of_effect in rows.items()
    }
    distribution = None
    if find_bins([now, baseline]) is not None:
        ruler = Ruler.between(now, baseline)
        distribution = ruler.measure(now)
        if shards and find_bins([now, *shards]) is not None:
            compared = [now, *shards]
            scores |= _score_distributions(ruler, compared, enough, weights, evidence)
            if distribution.scope == "channel":
                # What all channels show alike stands out from chance in the layer's distribution.
                ruler = Ruler.between(now.pooled(), baseline.pooled())
                of_layer = [stats.pooled() for stats in compared]
                more = _score_distributions(ruler, of_layer, enough, weights, evidence)
                scores |= {e: _size(np.array([scores[e], score])) for e, score in more.items()}
    scores = {effect: score for effect, score in scores.items() if not np.isnan(score)}
    known = list(scores.values()) or [0.0 if enough.any() else float("nan")]
    return LayerDrift(layer, kind, _size(np.array(known)), scores, effects, distribution)


def _score_distributions(
    ruler: Ruler,
    compared: Sequence[ChannelStats],
    enough: Array,
    weights: Array,
    evidence: Evidence,
) -> dict[str, float]:
    """Score distributions as effects of channels; each part of one counts as a channel does.

    Args:
        ruler: of the layer.
        compared: the layer in question, then the shards.
        enough: which channels have enough elements.
        weights: of channels.
        evidence: how many samples there are.
    """
    moved = [ruler.standardise(stats) for stats in compared]
    histograms, parts = ruler.ends.shape
    if histograms != len(enough):  # of the layer
        enough, weights = np.array([enough.any()]), np.ones(1)
    enough, weights = np.repeat(enough, parts), np.repeat(weights, parts)
    scores = {}
    for effect in moved[0]:
        rows = np.stack([m[effect].ravel() for m in moved])
        scores[effect] = _score(effect, _keep(rows, enough, weights), evidence)
    return scores


def _keep(rows: Array, enough: Array, weights: Array) -> Array:
    """Return the columns that are known of all rows, weighted."""
    kept = enough & np.isfinite(rows).all(0)
    return np.asarray(rows[:, kept] * _root_of_weights(weights[kept]))


def _score(effect: str, rows: Array, evidence: Evidence) -> float:
    if not rows.size:
        return float("nan")
    if evidence.shards:
        samples = np.array(evidence.shards, dtype=float)
        return surprise(rows[0], rows[1:], samples, evidence.share)
    # An effect that no photograph has here, as zeros behind a convolution, would lower the score.
    absent = effect == "sparsity" and _size(rows[0]) < NEGLIGIBLE * evidence.share**0.5
    return float("nan") if absent else assume_level(effect, rows[0], evidence.share)


def _root_of_weights(weights: Array) -> Array:
    """Return factors that turn a mean of squares into a weighted mean."""
    return np.sqrt(weights / weights.mean()) if weights.size else weights


def _size(values: Array) -> float:
    values = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else float("nan")


def _plain(x: float) -> float | None:
    return x if np.isfinite(x) else None
