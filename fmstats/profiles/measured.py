"""These columns of `Profile.layers` are there if they were asked for by `measure=`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np

from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.measures import HISTOGRAM, Measures
from fmstats.statistic.on_request import QUANTILES
from fmstats.statistic.state import State

# The measure that each column needs.
MEASURED = {**ChannelStats.REQUESTED, **dict.fromkeys(QUANTILES, HISTOGRAM)}


def name_measured(measures: Iterable[Measures]) -> tuple[str, ...]:
    """Return the columns that some of these measures give."""
    known = {measure for each in measures for measure in each.names}
    return tuple(name for name, measure in MEASURED.items() if measure in known)


def summarise_measured(
    stats: ChannelStats, whole: ChannelStats, names: Collection[str]
) -> dict[str, float | None]:
    """Return what a layer has in such columns, all channels taken together; None: not measured.

    Args:
        stats: of the layer.
        whole: its channels taken together, but for histograms.
        names: of the columns.
    """
    if not names:
        return {}
    known = [n for n in names if MEASURED[n] in stats.measures.names]
    found = pool_histograms(stats, whole).columns_of(known)
    return {n: float(np.asarray(found[n])[0]) if n in found else None for n in names}


def pool_histograms(stats: ChannelStats, whole: ChannelStats) -> ChannelStats:
    """Return `whole`, the channels of a layer taken together, with their histogram, if any."""
    bins, counts = stats.measures.bins, stats.state.bins
    if bins is None or counts is None:
        return whole
    measures = replace(whole.measures, bins=replace(bins, scope="layer"))
    total = counts.sum(0, keepdim=True)
    return ChannelStats(State(whole.state.words, measures=measures, bins=total), whole.thresholds)
