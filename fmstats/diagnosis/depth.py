"""Find layers where the scale has grown or shrunk too much along depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from fmstats.diagnosis.changes import Change
from fmstats.diagnosis.kinds import Levels, normalises
from fmstats.diagnosis.levels import find_changes
from fmstats.diagnosis.observed import FindingText, Mask, Observed, Verdict, enough_whole
from fmstats.diagnosis.thresholds import RuleThresholds


def _along_depth(
    layers: Sequence[Observed], thresholds: RuleThresholds, *, what: str, sign: int
) -> list[Verdict | None]:
    if len(layers) < thresholds["depth"]:
        return [None] * len(layers)
    judged = [enough_whole(layer, thresholds) for layer in layers]
    if layers[0].of == "grad_output":
        what = "rms"  # the mean of a gradient is as good as what varies around it
    scales = [
        getattr(layer, what) if seen[0] else 0.0 for layer, seen in zip(layers, judged, strict=True)
    ]
    # A layer of zeros has no scale; the rules for silent channels report it.
    levels = np.array([math.log(s) if 0 < s < math.inf else math.nan for s in scales])
    changes = find_changes(layers, levels, thresholds, sign)
    texts = {change.at.index: _describe(change, levels, what) for change in changes}
    return [
        Verdict(seen, seen & (layer.index in texts), _describer(texts.get(layer.index)))
        for layer, seen in zip(layers, judged, strict=True)
    ]


exploding = partial(_along_depth, what="rms", sign=1)
vanishing = partial(_along_depth, what="std", sign=-1)


def _describe(change: Change, levels: Levels, what: str) -> FindingText:
    at, old, new = change.at, change.old, change.new
    last = math.exp(levels[new.index])
    if old is None:
        by = "a normalisation gives" if normalises(new) else "a first layer of inputs near 1 gives"
        shown, first = f"{last:.4g}, where {by} about 1", 1.0
    else:
        first = math.exp(levels[old.index])
        order, side = ("before", "behind") if old.index > new.index else ("after", "before")
        kind = f", the {old.type} {side} it" if old.type == new.type else ""
        shown = f"{last:.4g} {order} {first:.4g} in {old.name}{kind}"
    if old is not None and change.steps > 1:
        return _describe_trend(change, old, first, last, what)
    own = math.exp(levels[at.index])
    message = f"{what} {shown}" if at is new else f"{what} {own:.4g}; {new.name} shows {shown}"
    return FindingText(message, {what: own, f"{what}_before": first, f"{what}_shown": last})


def _describe_trend(
    change: Change, old: Observed, first: float, last: float, what: str
) -> FindingText:
    factor, number = (last / first) ** (1 / change.steps), change.steps + 1
    kind = f" of type {old.type}" if old.type == change.new.type else ""
    message = (
        f"{what} {last:.4g} after {first:.4g} in {old.name}: times {factor:.3g} a layer over "
        f"{number} layers{kind}"
    )
    numbers = {f"{what}_first": first, f"{what}_last": last}
    return FindingText(message, {**numbers, "factor_per_layer": factor, "layers": number})


def _describer(text: FindingText | None) -> Callable[[Mask], FindingText]:
    def describe(where: Mask) -> FindingText:
        assert text is not None
        return text

    return describe
