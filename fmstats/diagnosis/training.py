"""Judge the parameters of a model in training: rows of `fmstats.track_parameters`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fmstats.diagnosis.observed import FindingText, Mask, Observed, Verdict, name_channels
from fmstats.diagnosis.thresholds import RuleThresholds
from fmstats.profiles.updates import FROZEN, split_name


def bad_parameter(layer: Observed, thresholds: RuleThresholds) -> Verdict:
    """Find NaN and infinities in weights, gradients and updates."""
    stats = layer.stats
    bad = stats.nan + stats.pos_inf + stats.neg_inf

    def describe(where: Mask) -> FindingText:
        nan, inf = int(stats.nan[where].sum()), int((bad - stats.nan)[where].sum())
        seen = int(stats.count[where].sum())
        message = f"{name_channels(where)}: {nan:,} NaN and {inf:,} infinite of {seen:,} elements"
        return FindingText(message, {"nan": nan, "inf": inf})

    return Verdict(stats.count > 0, bad > 0, describe)


def no_gradient(layer: Observed, thresholds: RuleThresholds) -> Verdict | None:
    """Find output channels whose gradient was exactly 0 in every step that was measured."""
    if layer.type != "gradient":
        return None
    calls, needed = layer.profile.calls, thresholds["steps"]
    judged = np.full(layer.stats.channels, calls >= needed)

    def describe(where: Mask) -> FindingText:
        message = f"{name_channels(where)}: the gradient is exactly 0 in each of {calls:,} steps"
        return FindingText(message, {"steps": calls})

    lacks = None if judged.all() else f"{calls} steps measured, {needed:g} needed"
    return Verdict(judged, judged & layer.stats.never_active, describe, lacks)


def large_update(layers: Sequence[Observed], thresholds: RuleThresholds) -> list[Verdict | None]:
    """Find weights that a step changes by a large part of their size.

    Weights of one dim are left out: biases begin at 0, so that any first step is large.
    """
    weights = {layer.name: layer for layer in layers if layer.type == "parameter"}
    return [
        _judge_update(layer, weights.get(split_name(layer.name)[0]), thresholds)
        if layer.type == "update" and len(layer.profile.shape) > 1
        else None
        for layer in layers
    ]


def _judge_update(
    layer: Observed, weight: Observed | None, thresholds: RuleThresholds
) -> Verdict | None:
    if weight is None or not weight.rms > 0:
        return None
    ratio, limit = layer.rms / weight.rms, thresholds["update"]

    def describe(where: Mask) -> FindingText:
        message = (
            f"a step changes it by {ratio:.3g} of its size: the rms is {layer.rms:.4g} of updates, "
            f"{weight.rms:.4g} of weights"
        )
        return FindingText(message, {"ratio": ratio})

    judged = np.array([layer.profile.calls >= thresholds["steps"]])
    lacks = f"{layer.profile.calls} steps measured, {thresholds['steps']:g} needed"
    return Verdict(judged, judged & (ratio > limit), describe, None if judged[0] else lacks)


def frozen_moves(layer: Observed, thresholds: RuleThresholds) -> Verdict | None:
    """Find frozen parameters that steps of the optimizer change all the same."""
    if layer.type != f"{FROZEN}update":
        return None
    stats = layer.stats
    seen = stats.count > 0

    def describe(where: Mask) -> FindingText:
        most = float(stats.abs_max[where].max())
        return FindingText(
            f"{name_channels(where)}: it changes by up to {most:.4g}", {"most": most}
        )

    return Verdict(seen, seen & ~stats.never_active, describe)
