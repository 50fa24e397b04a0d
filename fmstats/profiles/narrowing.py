"""`narrow` leaves out of a profile what was measured on request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from fmstats.errors import FmstatsError
from fmstats.profiles.layer_profile import LayerProfile
from fmstats.profiles.profile import Profile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.measures import HISTOGRAM, Measures


def narrow(profile: Profile, measure: str | Iterable[str]) -> Profile:
    """Return a copy that holds no more than some measures: see `Profile.narrowed`."""
    asked = Measures.of(measure).names
    groups = {name: _narrow_rows(part.info, asked) for name, part in profile.groups.items()}
    return Profile(_narrow_rows(profile.info, asked), profile.metadata, groups)


def _narrow_rows(
    rows: Mapping[str, LayerProfile], asked: tuple[str, ...]
) -> dict[str, LayerProfile]:
    return {name: replace(row, stats=_narrow(name, row.stats, asked)) for name, row in rows.items()}


def _narrow(name: str, stats: ChannelStats, asked: tuple[str, ...]) -> ChannelStats:
    known = stats.measures
    missing = [measure for measure in asked if measure not in known.names]
    if missing:
        raise FmstatsError(
            f"layer {name!r} was measured without {missing[0]!r}: it holds {known} beside what "
            "is always measured"
        )
    sums = tuple(measure for measure in known.sums if measure in asked)
    kept = Measures(sums, known.bins if HISTOGRAM in asked else None)
    return ChannelStats(stats.state.narrowed(kept), stats.thresholds)
