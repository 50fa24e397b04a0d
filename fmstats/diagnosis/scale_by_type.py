"""Judge the scale of layers that resemble no other, by what their type implies.

Initialisations make a weighted sum keep the variance of what goes in, and inputs are made to be of
the order of 1. Other types may shrink and be sound: shares, averages, gates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from fmstats.diagnosis.changes import Change
from fmstats.diagnosis.kinds import Levels, weighs
from fmstats.diagnosis.observed import Observed
from fmstats.diagnosis.thresholds import RuleThresholds

# A first layer has only 1 to be compared with, which inputs and weights keep roughly: it must be
# off by `growth` to this power.
_ROUGHLY = 1.5


def find_alone(
    scaled: Sequence[Observed],
    levels: Levels,
    alone: Sequence[Observed],
    thresholds: RuleThresholds,
    sign: int,
) -> Iterator[Change]:
    """Find weighted sums whose scale is far from 1 in a first layer, or far below 1 later.

    Args:
        scaled: the layers that have a scale, in the order of execution.
        levels: of each, the log of its scale.
        alone: those of them that no other is like.
        thresholds: `growth`.
        sign: 1 for growth, -1 for shrinking.
    """
    growth = math.log(thresholds["growth"])
    odd = {layer.index for layer in alone if weighs(layer)}
    first = scaled[0]
    if 0 in odd and sign * levels[0] > _ROUGHLY * growth:
        yield Change(first, first, None, 1)
    if sign > 0:
        return
    for before, layer in pairwise(scaled):
        level, fall = levels[layer.index], levels[before.index] - levels[layer.index]
        if layer.index in odd and min(-level, fall) > growth:
            yield Change(layer, layer, before, 1)
