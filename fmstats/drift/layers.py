"""Measure what changed in one layer, and how that compares with chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmstats.drift.effects import (
    EFFECTS,
    ChannelEffects,
    measure_effects,
    share_finite,
    standardise,
)
from fmstats.drift.noise import NEGLIGIBLE, assume_level, surprise
from fmstats.statistic.channel_stats import Array, ChannelStats


@dataclass(frozen=True)
class LayerDrift:
    """Holds the comparison of one layer.

    Attributes:
        score: its changes over what chance gives, root mean square of `scores`; NaN for too few
            elements.
        scores: the same by effect, without effects that the layer does not have.
        effects: of its channels.
    """

    layer: str
    type: str
    score: float
    scores: dict[str, float]
    effects: ChannelEffects

    def row(self) -> dict[str, Any]:
        """Return the root mean square over channels of each effect, and counts of channels."""
        e = self.effects
        sizes = {effect: _size(e.of(effect)) for effect in EFFECTS}
        growth = e.growth[np.isfinite(e.growth)]
        return {
            "layer": self.layer,
            "type": self.type,
            "score": _plain(self.score),
            **{effect: _plain(size) for effect, size in sizes.items()},
            "growth": _plain(float(np.median(growth))) if growth.size else None,
            "newly_dead": int(e.newly_dead.sum()),
            "revived": int(e.revived.sum()),
            "newly_broken": int(e.newly_broken.sum()),
            "broken": float(np.abs(e.broken).max(initial=0.0)),
        }

    def channels(self) -> list[dict[str, Any]]:
        """Return a row per channel with every effect, and the `size` that ranks it.

        The size is the largest of |shift|, |spread| / 2 (the change of the standard deviation, in
        e-folds), |sparsity| and |broken|.
        """
        e = self.effects
        sizes = np.fmax.reduce(
            [np.abs(e.shift), np.abs(e.spread) / 2, np.abs(e.sparsity), np.abs(e.broken)]
        )
        return [
            {
                "layer": self.layer,
                "channel": channel,
                "size": _plain(float(sizes[channel])),
                **{effect: _plain(float(e.of(effect)[channel])) for effect in EFFECTS},
                "growth": _plain(float(e.growth[channel])),
                "newly_dead": bool(e.newly_dead[channel]),
                "revived": bool(e.revived[channel]),
                "newly_broken": bool(e.newly_broken[channel]),
                "non_finite": _plain(float(e.non_finite[channel])),
                "broken": _plain(float(e.broken[channel])),
            }
            for channel in range(len(sizes))
        ]


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
    scores = {}
    for effect in EFFECTS:
        rows = np.stack([effects.of(effect), *(m[effect] for m in moved)])
        kept = enough & np.isfinite(rows).all(0)
        rows = rows[:, kept] * _root_of_weights(weights[kept])
        score = _score(effect, rows, evidence)
        if not np.isnan(score):
            scores[effect] = score
    known = list(scores.values()) or [0.0 if enough.any() else float("nan")]
    return LayerDrift(layer, kind, _size(np.array(known)), scores, effects)


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
