"""A strip is a histogram in one line of text: a block for each octave of magnitudes and sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fmstats.errors import FmstatsError
from fmstats.output.tables import Block, Column, Table
from fmstats.profiles.octaves import OctaveAxis, count_octaves
from fmstats.statistic.channel_stats import ChannelStats

BLOCKS = " ▁▂▃▄▅▆▇█"
PLAIN_BLOCKS = " .:-=+*#@"  # where an encoding lacks the others


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
    axis = OctaveAxis.of(found.values())
    rows = []
    for name, counts in found.items():
        below, zeros, above = axis.arrange(counts)
        heights = _heights([*below.tolist(), zeros, *above.tolist()], len(blocks) - 1)
        drawn, middle = "".join(blocks[height] for height in heights), axis.octaves
        strip = f"{drawn[:middle]}|{drawn[middle]}|{drawn[middle + 1 :]}"
        rows.append({"layer": name, "strip": strip})
    least, most = axis.ends
    title = f"{f'-{most}':<{axis.octaves}}|0|{most:>{axis.octaves}}"
    columns = (
        Column("layer", "layer", left=True, names=True),
        Column("strip", title, left=True),
    )
    note = (
        "A block is the share of elements in an octave of magnitudes, over the largest of the "
        f"layer; those beside |0| are of all below {least}."
    )
    return [Table(columns, rows), note]


def _heights(counts: Sequence[int], most: int) -> list[int]:
    """Return heights from 0 to `most`; of what is not empty it is never 0."""
    largest = max(*counts, 1)
    return [-(-count * most // largest) for count in counts]
