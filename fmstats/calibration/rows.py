"""Read of a profile what is known of numbers that are to share a scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from fmstats.errors import FmstatsError
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.distribution import Array, Distribution
from fmstats.statistic.measures import HISTOGRAM


@dataclass(frozen=True)
class Row:
    """Tells of the finite numbers of a layer, or of a channel.

    Attributes:
        low: the smallest one; NaN where there is none.
        high: the largest one.
        known: their distribution, of one row; None where there is no histogram of them.
    """

    low: float
    high: float
    known: Distribution | None

    @property
    def single(self) -> bool:
        """Tell whether no number was seen, or one and the same."""
        return not self.low < self.high

    @property
    def distribution(self) -> Distribution:
        """Return `known`, where whoever asks has made sure that it is."""
        assert self.known is not None
        return self.known

    @property
    def total(self) -> float:
        """Return how many numbers the distribution has, 0 where there is none."""
        return 0.0 if self.known is None else float(self.known.total[0])

    @cached_property
    def filled(self) -> tuple[Array, Array, Array]:
        """Return the bins that are not empty: their lower and upper edges and their counts."""
        found = self.distribution
        filled = found.counts[0] > 0
        counts = found.counts[0, filled].astype(float)
        return found.edges[0, :-1][filled], found.edges[0, 1:][filled], counts


def rows_of(stats: ChannelStats, per: str) -> Iterator[Row]:
    """Return the row of a layer, or of each of its channels.

    Args:
        stats: of the layer.
        per: "tensor" or "channel".
    """
    whole = stats if per == "channel" else stats.pooled()
    known = None if why_unknown(stats, per) else whole.distribution
    for i, (low, high) in enumerate(zip(whole.min.tolist(), whole.max.tolist(), strict=True)):
        yield Row(low, high, None if known is None else known.row(i))


def why_unknown(stats: ChannelStats, per: str) -> str | None:
    """Tell what `track` was not asked for that distributions need; None if they are known."""
    bins = stats.measures.bins
    if bins is None or (per == "channel" and bins.scope != "channel"):
        scope = ("", "") if per == "tensor" else (", histogram='channel'", " --histogram channel")
        return f"track(..., measure={HISTOGRAM!r}{scope[0]}) or --measure {HISTOGRAM}{scope[1]}"
    return None


def need_distributions(layer: str, stats: ChannelStats, per: str, method: str) -> None:
    """Refuse a layer whose distributions are not known.

    Raises:
        FmstatsError: they are not.
    """
    lacking = why_unknown(stats, per)
    if lacking is not None:
        raise FmstatsError(
            f"method={method!r} needs the distribution of each {per}, and {layer!r} has none: "
            f"measure it with {lacking}; method='absmax' needs nothing but what is always measured"
        )
