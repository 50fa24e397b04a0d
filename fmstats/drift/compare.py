"""Compare a profile with its baseline."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fmstats.drift.comparison import Comparison, overall_score, to_percent
from fmstats.drift.distributions import describe_bins
from fmstats.drift.inputs import describe_other_preparation, describe_other_sizes
from fmstats.drift.layers import Evidence, LayerDrift, compare_layer
from fmstats.drift.matching import check_missing, match_layers, read_only_common
from fmstats.drift.paired import compare_paired
from fmstats.errors import FmstatsError
from fmstats.output.tables import format_plural
from fmstats.profiles.merging import call_alike
from fmstats.profiles.metadata import read_count
from fmstats.profiles.profile import Profile, check_profile

# Chosen on other splits of the photographs than those that docs/drift.md reports.
THRESHOLD = 1.5
# Without shards chance is only assumed, and its directions are not known.
ASSUMED_THRESHOLD = 2.5
LEAST_SAMPLES = 16
LEAST_ELEMENTS = 16  # in a channel
LEAST_SHARDS = 3
# Shares of NaN and infinities differ from this effect size on (0 and 0.25 %), and from so many
# standard deviations of chance on, if whole samples are broken or not.
LEAST_BROKEN, CHANCES = 0.1, 2.0
NOT_ENOUGH = "not enough data"
# More shards add little information, and their cost is cubic.
MOST_SHARDS = 24


def compare(
    now: Profile,
    baseline: Profile,
    *,
    calibration: Sequence[Profile] | None = None,
    threshold: float | None = None,
    missing: str = "refuse",
    paired: bool = False,
    least_samples: int = LEAST_SAMPLES,
    only_common: bool | None = None,
) -> Comparison:
    """Compare a profile with its baseline: effect sizes, a score, a verdict (see docs/drift.md).

    Both need `samples` in their metadata, as `fmstats.profile` writes it: how far chance moves a
    channel depends on the number of samples, not of elements. Distributions are compared as well
    where both have histograms of the same bins, and count where those of `calibration` do, too.

    Args:
        now: the profile in question.
        baseline: what it should be like.
        calibration: three or more parts of the baseline, whose differences show what chance gives.
            None: what photographs gave in an image classifier is assumed, which misses more.
        threshold: drift from this score on; None: 1.5 with calibration, 2.5 without.
        missing: what to do if they do not have the same layers: "refuse" to compare, or "drop"
            those that one of them lacks or that do not fit, also of another version of the model.
        paired: both saw the same inputs, such as two checkpoints of one model. Then nothing is
            chance but rounding, a score is the size of a change in standard deviations of the
            baseline, and there is a verdict of drift with a `threshold` alone.
        least_samples: with fewer on a side there is no verdict.
        only_common: the old way to say missing="drop".

    Raises:
        FmstatsError: other models, layers, channels or thresholds for zero or saturation, unless
            `missing` allows for it; too few shards, a threshold that is not positive and finite; in
            any case, another `of`, `when` or `per_call`; with `paired`, other inputs, or a
            `calibration`.
    """
    missing = read_only_common(only_common, missing)
    check_missing(missing)
    if paired:
        if calibration is not None:
            raise FmstatsError(
                "paired=True takes no calibration: the same inputs leave no chance to measure"
            )
        limit = None if threshold is None else choose_threshold(threshold, None)
        return compare_paired(now, baseline, threshold=limit, missing=missing)
    limit = choose_threshold(threshold, calibration)
    shards = _check_shards(calibration)
    for profile in (now, baseline, *shards):
        check_profile(profile, "compare()")
    baseline, *shards = call_alike([baseline, *shards], now)
    matching = match_layers(now, baseline, missing, "the profile")
    layers, left_out = matching.layers, dict(matching.left_out)
    for number, shard in enumerate(shards, start=1):
        role = f"calibration profile {number}"
        fitting = set(match_layers(shard, baseline, missing, role).layers)
        left_out |= {name: f"differs in {role}" for name in layers if name not in fitting}
        layers = [name for name in layers if name in fitting]
    evidence = _count_samples(now, baseline, shards)
    if evidence is None:
        reason = (
            "a profile has no 'samples' in its metadata, the number of images seen: "
            "fmstats.profile writes it where it can tell, or is told by batch_dim=; with "
            "fmstats.track set profile.metadata['samples']"
        )
        return Comparison(math.nan, limit, NOT_ENOUGH, (reason,), (), left_out, None)
    parts = call_alike(_merge_runs(shards), now)
    evidence = replace(evidence, shards=tuple(part.metadata["samples"] for part in parts))
    drifts = [
        compare_layer(
            name,
            now.info[name].type,
            now[name],
            baseline[name],
            [part[name] for part in parts],
            evidence,
            LEAST_ELEMENTS,
        )
        for name in layers
    ]
    found = _judge(drifts, limit, evidence, least_samples, left_out)
    also = [
        *describe_bins(*(now[layers[0]], baseline[layers[0]], [part[layers[0]] for part in parts])),
        *describe_other_preparation(now, baseline),
        *describe_other_sizes(now, baseline, layers, (evidence.now, evidence.baseline)),
    ]
    return replace(found, reasons=(*found.reasons, *also), baseline=baseline)


def choose_threshold(threshold: float | None, calibration: Sequence[Profile] | None) -> float:
    """Return the score from which it is drift: the one given, or the default.

    Raises:
        FmstatsError: it is not positive and finite.
    """
    if threshold is None:
        return ASSUMED_THRESHOLD if calibration is None else THRESHOLD
    if not 0 < threshold < math.inf:
        raise FmstatsError(
            f"threshold={threshold}: give a finite score above 0; it is about 1 by chance"
        )
    return float(threshold)


def _check_shards(calibration: Sequence[Profile] | None) -> list[Profile]:
    if calibration is None:
        return []
    shards = list(calibration)
    if len(shards) < LEAST_SHARDS:
        raise FmstatsError(
            f"calibration has {len(shards)} profiles: give at least {LEAST_SHARDS} parts of the "
            "baseline, or None to assume how much profiles differ by chance"
        )
    return shards


def _count_samples(now: Profile, baseline: Profile, shards: list[Profile]) -> Evidence | None:
    counts = []
    for profile in (now, baseline, *shards):
        count = read_count(profile.metadata, "samples")
        if not count:
            return None
        counts.append(count)
    return Evidence(counts[0], counts[1], tuple(counts[2:]))


def _merge_runs(shards: list[Profile]) -> list[Profile]:
    """Merge adjacent shards into at most `MOST_SHARDS` parts."""
    parts = min(len(shards), MOST_SHARDS)
    bounds = [len(shards) * i // parts for i in range(parts + 1)] if parts else []
    runs = [shards[start:end] for start, end in itertools.pairwise(bounds)]
    return [run[0].merge(*run[1:], missing="drop") for run in runs]


def _judge(
    drifts: Sequence[LayerDrift],
    threshold: float,
    evidence: Evidence,
    least_samples: int,
    left_out: dict[str, str],
) -> Comparison:
    score = overall_score([drift.score for drift in drifts])
    few = [f"{n} samples in {role}" for role, n in _roles(evidence) if n < least_samples]
    reasons = [f"{text}, at least {least_samples} are needed" for text in few]
    thin = [drift.layer for drift in drifts if math.isnan(drift.score)]
    if len(thin) == len(drifts):
        reasons.append(f"fewer than {LEAST_ELEMENTS} finite elements in every channel")
    verdict = NOT_ENOUGH if reasons else "drift" if score >= threshold else "no drift"
    plain = overall_score([drift.score_of_moments for drift in drifts])
    if verdict == "drift" and plain < threshold:
        reasons.append(
            "found in distributions, by Wasserstein-1 (W1) or by shares (PSI, JS): the score of "
            f"means, variances and zeros alone is {plain:.3g}"
        )
    limit = max(LEAST_BROKEN, CHANCES * math.sqrt(evidence.share))
    broken = [drift for drift in drifts if (np.abs(drift.effects.broken) >= limit).any()]
    if broken:
        verdict = "drift"
        reasons.append(f"other shares of NaN or infinities, {_describe_nonfinite(broken)}")
    newly = [drift for drift in drifts if drift.effects.newly_broken.any()]
    if newly and not broken:
        reasons.append(
            "NaN or infinities that the baseline does not have, but no more than chance may give, "
            + _describe_nonfinite(newly)
        )
    if thin and len(thin) < len(drifts):
        reasons.append(
            f"not counted: {format_plural(len(thin), 'layer')} with fewer than {LEAST_ELEMENTS} "
            f"finite elements in every channel, such as {thin[0]!r}"
        )
    return Comparison(score, threshold, verdict, tuple(reasons), tuple(drifts), left_out, evidence)


def _describe_nonfinite(drifts: Sequence[LayerDrift]) -> str:
    """Name the layers, and the channel of the first one that changed most."""
    effects = drifts[0].effects
    change = to_percent(float(effects.non_finite[np.abs(effects.broken).argmax()]))
    return (
        f"in {format_plural(len(drifts), 'layer')}, the first of them {drifts[0].layer!r}: "
        f"{abs(change):g} % {'more' if change > 0 else 'fewer'} of a channel's elements"
    )


def _roles(evidence: Evidence) -> list[tuple[str, int]]:
    return [("the profile", evidence.now), ("the baseline", evidence.baseline)]
