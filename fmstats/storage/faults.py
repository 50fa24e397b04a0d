"""These functions say which number of which layer and channel no data can have given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fmstats.errors import FmstatsError
from fmstats.profiles.stacks import StackedLayer
from fmstats.statistic.bins import Bins
from fmstats.statistic.distribution import Array

Layers = Mapping[str, StackedLayer]


def refuse(wrong: Array, layers: Layers, field: str, row: Array, fault: str) -> None:
    """Refuse the first channel that is wrong, if any is.

    Args:
        wrong: bool, of each channel of all layers.
        layers: whose channels these are, in this order.
        field: what the numbers are.
        row: the numbers.
        fault: what is wrong with them.

    Raises:
        FmstatsError: it names the layer, the channel and its number.
    """
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        name, channel = _find(place, layers)
        raise FmstatsError(f"layer {name!r}: {field} of channel {channel} is {row[place]}: {fault}")


def refuse_histogram(wrong: Array, layers: Layers, bins: Bins, fault: str) -> None:
    """Refuse the first histogram that is wrong, if any is.

    Raises:
        FmstatsError: it names the layer, and the channel of which the histogram is.
    """
    if not wrong.any():
        return
    place = int(np.flatnonzero(wrong)[0])
    if bins.scope == "layer":
        raise FmstatsError(f"layer {list(layers)[place]!r}: its histogram {fault}")
    name, channel = _find(place, layers)
    raise FmstatsError(f"layer {name!r}: the histogram of channel {channel} {fault}")


def _find(place: int, layers: Layers) -> tuple[str, int]:
    """Return the layer and the number within it of a channel of all layers."""
    ends = np.cumsum([layer.channels for layer in layers.values()])
    number = int(np.searchsorted(ends, place, "right"))
    name, layer = list(layers.items())[number]
    return name, int(place - ends[number] + layer.channels)
