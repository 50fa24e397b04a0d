"""Compare two runs over the same inputs: of two checkpoints, dtypes, libraries or devices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fmstats.drift.comparison import Comparison
from fmstats.drift.effects import share_finite
from fmstats.drift.inputs import describe_other_preparation, describe_other_sizes
from fmstats.drift.layers import Evidence, LayerDrift
from fmstats.drift.matching import match_layers
from fmstats.drift.paired_effects import measure_paired_distribution, measure_paired_effects
from fmstats.drift.rounding import list_epsilons, name_coarsest
from fmstats.errors import FmstatsError
from fmstats.profiles.merging import call_alike
from fmstats.profiles.metadata import agree, read_count, show_value
from fmstats.profiles.profile import Profile, check_profile

CHANGED, UNCHANGED = "changed", "no change beyond rounding"


def compare_paired(
    now: Profile, baseline: Profile, *, threshold: float | None, missing: str
) -> Comparison:
    """Compare two profiles of the same inputs: see `fmstats.drift.compare`.

    Raises:
        FmstatsError: the inputs were not the same, as far as the profiles tell, or the layers do
            not fit, unless `missing` allows for it.
    """
    for profile in (now, baseline):
        check_profile(profile, "compare()")
    (baseline,) = call_alike([baseline], now)
    matching = match_layers(now, baseline, missing, "the profile")
    evidence, notes = _check_inputs(now, baseline, matching.layers)
    epsilons = list_epsilons(now, baseline, matching.layers)
    drifts = [_compare_layer(name, now, baseline, epsilons[name]) for name in matching.layers]
    known = [drift.score for drift in drifts if not math.isnan(drift.score)]
    score = max(known, default=math.nan)
    coarsest = name_coarsest(now, baseline, matching.layers)
    notes.append(f"what rounding in {coarsest} explains is no change")
    return Comparison(
        score,
        math.nan if threshold is None else threshold,
        _judge(score, threshold),
        tuple(notes),
        tuple(drifts),
        dict(matching.left_out),
        evidence,
        baseline,
        paired=True,
    )


def _judge(score: float, threshold: float | None) -> str:
    if math.isnan(score):
        return "not enough data"
    if threshold is not None:
        return "drift" if score >= threshold else "no drift"
    return CHANGED if score > 0 else UNCHANGED


def _check_inputs(
    now: Profile, baseline: Profile, layers: Sequence[str]
) -> tuple[Evidence | None, list[str]]:
    """Refuse profiles of other inputs; return the samples, and what is not known of the inputs."""
    samples = [read_count(profile.metadata, "samples") for profile in (now, baseline)]
    if None not in samples and samples[0] != samples[1]:
        raise FmstatsError(
            f"paired: the profile has seen {samples[0]} samples, the baseline {samples[1]}. Run "
            "both models over the same inputs, or compare without paired"
        )
    other = describe_other_preparation(now, baseline)
    if other:
        raise FmstatsError(f"paired: {other[0]}. Run both models over the same inputs")
    notes = []
    data = [profile.metadata.get("data") for profile in (now, baseline)]
    if None in data:
        notes.append(
            "the profiles do not tell their inputs: that these are the same is taken on trust"
        )
    elif not agree(*data):
        notes.append(
            f"the profiles name other inputs: {show_value(data[0])} and {show_value(data[1])}"
        )
    count = samples[0]
    if count is None or samples[1] is None:
        notes.append("the number of samples is not known of both")
        return None, notes
    if count:
        notes += describe_other_sizes(now, baseline, layers, (count, count))
    return Evidence(count, count), notes


def _compare_layer(name: str, now: Profile, baseline: Profile, epsilon: float) -> LayerDrift:
    stats, before = now[name], baseline[name]
    effects = measure_paired_effects(stats, before, epsilon)
    distribution = measure_paired_distribution(stats, before, epsilon)
    drift = LayerDrift(name, now.info[name].type, math.nan, {}, effects, distribution)
    weights = np.minimum(share_finite(stats), share_finite(before))
    seen = (stats.count > 0) & (before.count > 0)
    scores = {}
    for effect, values in drift.ranking().items():
        kept = seen & np.isfinite(values)
        if kept.any():
            scores[effect] = _size(values[kept], weights[kept])
    if distribution is not None and distribution.scope == "layer":
        scores["wasserstein"] = float(np.abs(distribution.wasserstein).max(initial=0.0))
    score = max(scores.values(), default=math.nan)
    return LayerDrift(name, now.info[name].type, score, scores, effects, distribution)


def _size(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the root mean square over channels, weighted by their shares of finite elements."""
    if not weights.sum() > 0:
        return float(np.abs(values).max(initial=0.0))
    return float(np.sqrt(np.average(np.square(values), weights=weights)))
