"""Present a layer to the rules: statistics, the amount of data, and its place in the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fmstats.diagnosis.thresholds import RuleThresholds
from fmstats.profiles.metadata import read_count, read_text
from fmstats.profiles.profile import LayerProfile, Profile
from fmstats.statistic.channel_stats import ChannelStats, pool_channels
from fmstats.statistic.distribution import Array, Distribution

Mask = NDArray[np.bool_]
Numbers = Mapping[str, float | int | str | None]

SHOWN = 8  # channel numbers named in a message
# As many zeros to the element in fewer than three channels, or in fewer of them, may be chance.
_LEAST_ALIKE, _ALIKE = 3, 0.9


@dataclass(frozen=True)
class Observed:
    """Presents one layer of a profile to the rules.

    Attributes:
        index: its place in the order of execution.
        whole: its statistics with all channels taken together as one.
        of: what was measured of it, as in `fmstats.track`: "output", "input" or "grad_output".
        fed: samples that the whole run saw, where the profile says so.
        blank: elements of each channel in positions where every channel is 0, such as padding.
    """

    name: str
    index: int
    profile: LayerProfile
    whole: ChannelStats
    of: str
    fed: int | None
    blank: int = 0

    @property
    def stats(self) -> ChannelStats:
        """Return the statistics by channel."""
        return self.profile.stats

    @property
    def type(self) -> str:
        """Return the class name of the module."""
        return self.profile.type

    @property
    def rms(self) -> float:
        """Return the root of the mean square of all finite elements; NaN without any."""
        return float(self.whole.rms[0])

    @cached_property
    def std(self) -> float:
        """Return the root of the mean variance within channels; their means do not add to it."""
        weights = self.stats.finite_count
        if not weights.any():
            return math.nan
        return math.sqrt(
            np.average(np.where(weights > 0, self.stats.variance(0), 0.0), weights=weights)
        )

    @cached_property
    def distribution(self) -> Distribution | None:
        """Return its histograms; None where none were measured."""
        return None if self.stats.measures.bins is None else self.stats.distribution

    @cached_property
    def nan(self) -> int:
        """Return the number of NaN elements in all channels."""
        return int(self.stats.nan.sum())

    @cached_property
    def inf(self) -> int:
        """Return the number of infinite elements in all channels."""
        return int((self.stats.pos_inf + self.stats.neg_inf).sum())

    @cached_property
    def first_pass(self) -> int | None:
        """Return the forward pass of the first element that was not finite; None if not known."""
        return _first(self.stats.first_pass)

    @cached_property
    def first_step(self) -> int | None:
        """Return the user's step of that element; None if not known."""
        return _first(self.stats.first_step)

    @cached_property
    def samples(self) -> int:
        """Estimate how many samples the layer saw.

        What it measured, in units of what one index of dim 0 holds in a tensor of the last shape;
        a layer whose channels are in dim 0 saw one sample a call. Never more than the run saw.
        """
        shape, channels = self.profile.shape, self.profile.channel_dim
        about = self.profile.calls
        if channels != 0:
            each = math.prod(n for dim, n in enumerate(shape) if dim not in (0, channels))
            about = int(self.stats.count.max(initial=0)) // max(each, 1)
        return about if self.fed is None else min(about, self.fed)


@dataclass(frozen=True)
class FindingText:
    """Holds the message of a finding, and its numbers by name.

    Attributes:
        severity: None for the usual one of the rule.
        follows: the layer before it whose finding this one repeats, where the rule knows.
    """

    message: str
    numbers: Numbers
    severity: str | None = None
    follows: str | None = None


@dataclass(frozen=True)
class Verdict:
    """Holds what a rule found in one layer.

    Attributes:
        judged: of which channels there was enough evidence (bool, one a channel; of length 1 for a
            rule that judges whole layers).
        hit: for which of these the rule's condition holds (bool, as long).
        describe: what to say of some of the hits, given as such a mask.
        lacks: what the rest lacks, None where it is elements or samples.
    """

    judged: Mask
    hit: Mask
    describe: Callable[[Mask], FindingText]
    lacks: str | None = None


def _first(times: Array) -> int | None:
    known = times[times >= 0]
    return int(known.min()) if known.size else None


def observe(profile: Profile) -> list[Observed]:
    """Return the layers of a profile in the order of execution."""
    fed = read_count(profile.metadata, "samples")
    of = read_text(profile.metadata, "of", "output")
    wholes = pool_channels(list(profile.values()))
    blanks = count_blanks([layer.stats for layer in profile.info.values()])
    layers = zip(profile.info.items(), wholes, blanks, strict=True)
    return [
        Observed(name, i, layer, whole, of, fed, blank)
        for i, ((name, layer), whole, blank) in enumerate(layers)
    ]


def count_blanks(layers: Sequence[ChannelStats]) -> list[int]:
    """Count, for each layer, the elements of a channel at positions where every channel is 0.

    Moments do not show positions. But padding puts as many zeros into each channel, which nothing
    else does in nine of ten channels or more; and layers of as many positions behind it keep them,
    if each of their channels has zeros enough.
    """
    blanks: list[int] = []
    known: dict[int, int] = {}
    for stats in layers:
        blank = 0
        if stats.channels >= _LEAST_ALIKE:
            positions, zeros = int(stats.count.min()), stats.zeros
            least = int(zeros.min())
            if 0 < least < positions and (zeros == least).mean() >= _ALIKE:
                known[positions] = blank = least
            elif least < positions and known.get(positions, 0) <= least:
                blank = known.get(positions, 0)
        blanks.append(blank)
    return blanks


def enough(layer: Observed, thresholds: RuleThresholds) -> Mask:
    """Return which channels have enough finite elements, from enough samples."""
    many = layer.samples >= thresholds["samples"]
    return np.asarray((layer.stats.finite_count >= thresholds["elements"]) & many)


def enough_whole(layer: Observed, thresholds: RuleThresholds) -> Mask:
    """Return, as a mask of length 1, whether the whole layer has enough elements and samples."""
    many = layer.samples >= thresholds["samples"]
    return np.asarray((layer.whole.finite_count >= thresholds["elements"]) & many)


def why_too_little(layer: Observed, unjudged: Mask, thresholds: RuleThresholds) -> str:
    """Say what evidence is lacking for the unjudged channels, or for the whole layer."""
    if not layer.stats.count.any():
        return "nothing was seen"
    if layer.samples < thresholds["samples"]:
        return f"{layer.samples} samples seen, {thresholds['samples']:g} needed"
    stats = layer.stats if len(unjudged) == layer.stats.channels else layer.whole
    finite = int(stats.finite_count[unjudged].min())
    return f"{finite} finite elements seen, {thresholds['elements']:g} needed"


def is_constant(layer: Observed, thresholds: RuleThresholds) -> Mask:
    """Return which channels always have the same value, other than 0."""
    stats = layer.stats
    some = (stats.finite_count > 0) & ~stats.never_active
    flat = np.zeros_like(some)
    spread = stats.max[some] - stats.min[some]
    flat[some] = spread <= thresholds["constant"] * stats.abs_max[some]
    return flat


def name_channels(where: Mask) -> str:
    """Name channels in words: `2 of 8 channels (3, 5)`."""
    channels = np.flatnonzero(where)
    named = ", ".join(map(str, channels[:SHOWN])) + (", ..." if len(channels) > SHOWN else "")
    return f"{len(channels)} of {len(where)} channels ({named})"
