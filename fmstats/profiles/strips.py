"""A strip is a histogram in one line of text: a block for each octave of magnitudes and sign."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fmstats.errors import FmstatsError
from fmstats.output.tables import Block, Column, Table
from fmstats.profiles.measured import pool_histograms
from fmstats.statistic.bins import Bins
from fmstats.statistic.channel_stats import Array, ChannelStats, pool_channels

BLOCKS = " ▁▂▃▄▅▆▇█"
PLAIN_BLOCKS = " .:-=+*#@"  # where an encoding lacks the others
_MOST_OCTAVES = 16  # of a sign, in a line


def count_octaves(layers: Mapping[str, ChannelStats]) -> dict[str, Array]:
    """Return how many elements of each layer are in each octave, see `Distribution.octaves`.

    Layers without histograms are left out.
    """
    wholes = pool_channels(list(layers.values()))
    return {
        name: pool_histograms(stats, whole).distribution.octaves()[0]
        for (name, stats), whole in zip(layers.items(), wholes, strict=True)
        if stats.measures.bins is not None
    }


def draw_strips(layers: Mapping[str, ChannelStats], blocks: str = BLOCKS) -> list[Block]:
    """Return a table with the strip of each layer, all on one axis, and what the axis is.

    Args:
        layers: of which those are drawn that have histograms.
        blocks: a character for nothing, and the others from the lowest to the highest.

    Raises:
        FmstatsError: no layer has histograms.
    """
    found = count_octaves(layers)
    if not found:
        raise FmstatsError(
            "no layer has a histogram: measure='histogram' (--measure histogram) of the run makes "
            "them"
        )
    counts = np.stack(list(found.values()))
    middle = counts.shape[1] // 2
    below, zeros, above = counts[:, middle - 1 :: -1], counts[:, [middle]], counts[:, middle + 1 :]
    used = np.flatnonzero((below + above).any(0))
    top = int(used.max(initial=0))
    bottom = max(int(used.min(initial=top)), top + 1 - _MOST_OCTAVES)
    below, above = (_choose(sign, bottom, top) for sign in (below, above))
    lines = np.concatenate([below[:, ::-1], zeros, above], 1)
    rows = [
        {"layer": name, "strip": _draw(line, blocks)}
        for name, line in zip(found, lines, strict=True)
    ]
    room, most = top - bottom + 1, _end_of(top)
    columns = (
        Column("layer", "layer", left=True, names=True),
        Column("strip", f"{f'-{most}':<{room}}|0|{most:>{room}}", left=True),
    )
    note = (
        "A block is the share of elements in an octave of magnitudes, over the largest of the "
        f"layer; those beside |0| are of all below {_end_of(bottom)}."
    )
    return [Table(columns, rows), note]


def _choose(counts: Array, bottom: int, top: int) -> Array:
    """Return the octaves from one to another, the first one with all smaller magnitudes."""
    chosen = counts[:, bottom : top + 1].copy()
    chosen[:, 0] += counts[:, :bottom].sum(1)
    return chosen


def _draw(counts: Array, blocks: str) -> str:
    """Draw the octaves of one layer; one that is not empty is never drawn as nothing."""
    heights = np.ceil(counts / max(int(counts.max()), 1) * (len(blocks) - 1)).astype(int)
    drawn = "".join(blocks[height] for height in heights)
    middle = len(drawn) // 2
    return f"{drawn[:middle]}|{drawn[middle]}|{drawn[middle + 1 :]}"


def _end_of(place: int) -> str:
    """Return the magnitude at which an octave ends, as text."""
    if place > Bins.OCTAVES:
        return "inf"
    return f"{min(2.0 ** (Bins.LOWEST_EXPONENT + place), Bins.LARGEST):.5g}"
