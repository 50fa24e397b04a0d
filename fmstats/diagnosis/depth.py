"""Scale along depth: layers of one type whose rms grows or shrinks from layer to layer.

Only layers of one type are compared: a convolution and the normalisation behind it differ for good
reasons.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fmstats.diagnosis.limits import Limits
from fmstats.diagnosis.observed import Mask, Observed, Told, Verdict, enough_whole


def exploding(layers: Sequence[Observed], limits: Limits) -> list[Verdict | None]:
    """Layers where the rms has grown too much since the first of their type, or in one step."""
    return _along_depth(layers, limits, 1)


def vanishing(layers: Sequence[Observed], limits: Limits) -> list[Verdict | None]:
    """The same of an rms that shrinks."""
    return _along_depth(layers, limits, -1)


def _along_depth(layers: Sequence[Observed], limits: Limits, sign: int) -> list[Verdict | None]:
    groups: dict[str, list[Observed]] = defaultdict(list)
    for layer in layers:
        groups[layer.type].append(layer)
    verdicts: list[Verdict | None] = [None] * len(layers)
    for group in groups.values():
        if len(group) >= limits["depth"]:
            for layer, verdict in zip(group, _of_one_type(group, limits, sign), strict=True):
                verdicts[layer.index] = verdict
    return verdicts


def _of_one_type(group: Sequence[Observed], limits: Limits, sign: int) -> list[Verdict]:
    """A verdict on each layer; a trend is told at the last one, a step where it is."""
    judged = [enough_whole(layer, limits) for layer in group]
    # A layer of zeros has no scale; the rules for silent channels tell of it.
    scaled = [
        layer
        for layer, seen in zip(group, judged, strict=True)
        if seen[0] and 0 < layer.whole.rms[0] < math.inf
    ]
    told = _find_steps(scaled, limits["growth"], sign)
    if not told and len(scaled) >= limits["depth"]:
        told = _find_trend(scaled, limits["growth"], sign)
    return [
        Verdict(seen, seen & (layer.index in told), _teller(told.get(layer.index)))
        for layer, seen in zip(group, judged, strict=True)
    ]


def _find_steps(scaled: Sequence[Observed], growth: float, sign: int) -> dict[int, Told]:
    told = {}
    for before, layer in pairwise(scaled):
        first, last = float(before.whole.rms[0]), float(layer.whole.rms[0])
        if sign * (math.log(last) - math.log(first)) > math.log(growth):
            message = (
                f"rms {last:.4g} after {first:.4g} in {before.name}, the {layer.type} before it"
            )
            told[layer.index] = Told(message, {"rms": last, "rms_before": first})
    return told


def _find_trend(scaled: Sequence[Observed], growth: float, sign: int) -> dict[int, Told]:
    log = np.log([float(layer.whole.rms[0]) for layer in scaled])
    slope = theil_sen(log)
    if sign * slope * (len(scaled) - 1) <= math.log(growth):
        return {}
    first, last = scaled[0], scaled[-1]
    numbers = {
        "rms_first": float(first.whole.rms[0]),
        "rms_last": float(last.whole.rms[0]),
        "factor_per_layer": math.exp(slope),
        "layers": len(scaled),
    }
    message = (
        f"rms {numbers['rms_last']:.4g} after {numbers['rms_first']:.4g} in {first.name}: times "
        f"{math.exp(slope):.3g} a layer over {len(scaled)} layers of type {last.type}"
    )
    return {last.index: Told(message, numbers)}


def theil_sen(y: NDArray[np.float64]) -> float:
    """The median of the slopes between all pairs of points (0, y[0]), (1, y[1]), ... (Sen 1968)."""
    i, j = np.triu_indices(len(y), 1)
    return float(np.median((y[j] - y[i]) / (j - i)))


def _teller(told: Told | None) -> Callable[[Mask], Told]:
    def tell(where: Mask) -> Told:
        assert told is not None
        return told

    return tell
