"""Pack the numbers of all channels into few bytes, as assets/numbers.js unpacks them.

A statistic is one array: the channels of all layers, one layer after the other, NaN where nothing
is known. Each number is the upper three bytes of its float32, rounded, which is within 2^-16 of it
(four digits are shown). First come all highest bytes, then all middle ones, then all low ones, so
that like bytes stand together; then zlib; then base64. Beyond the range of float32 a number becomes
infinite, below it 0.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fmstats.drift import ChannelEffects, Comparison
from fmstats.profiles.profile import Profile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.distribution import Array

_LARGEST = np.uint32(0x7F7FFF00)  # in the upper three bytes, without the sign
_SIGN, _INFINITE = np.uint32(0x80000000), np.uint32(0x7F800000)


@dataclass(frozen=True)
class Statistic:
    """Describes a number that every channel has.

    Attributes:
        key: its name in the page's data.
        label: its name for readers.
        kind: how it is shown: a "value" of either sign, a "size" from 0 on, a "share" from 0 to 1,
            or a "change", of either sign.
    """

    key: str
    label: str
    kind: str


_OF_STATS: Mapping[Statistic, Callable[[ChannelStats], Array | None]] = {
    Statistic("mean", "mean", "value"): lambda stats: stats.mean,
    Statistic("std", "std", "size"): lambda stats: stats.std,
    Statistic("min", "min", "value"): lambda stats: stats.min,
    Statistic("max", "max", "value"): lambda stats: stats.max,
    Statistic("sparsity", "sparsity", "share"): lambda stats: stats.sparsity,
    Statistic("saturated", "saturated", "share"): lambda stats: stats.saturated,
    Statistic("nonfinite", "NaN and Inf", "share"): lambda stats: (
        1 - stats.finite_count / np.maximum(stats.count, 1)
    ),
}
_ALWAYS = ("mean", "std")
_OF_EFFECTS: Mapping[Statistic, Callable[[ChannelEffects], Array]] = {
    Statistic("shift", "shift", "change"): lambda effects: effects.shift,
    Statistic("spread", "spread", "change"): lambda effects: effects.spread,
    Statistic("sparsity_change", "change of sparsity", "change"): lambda effects: effects.sparsity,
}


def pack_channels(profile: Profile, comparison: Comparison | None) -> dict[Statistic, str]:
    """Return base64 text by statistic, without those that no channel has; mean and std stay.

    The page takes these two for granted: a curve of nothing is empty.
    """
    arrays = dict(_gather(profile, comparison))
    return {
        statistic: pack(array)
        for statistic, array in arrays.items()
        if statistic.key in _ALWAYS or not np.isnan(array).all()
    }


def _gather(profile: Profile, comparison: Comparison | None) -> Iterator[tuple[Statistic, Array]]:
    for statistic, of_stats in _OF_STATS.items():
        yield (
            statistic,
            _join([_or_nothing(of_stats(stats), stats.channels) for stats in profile.values()]),
        )
    if comparison is not None:
        effects = {layer.layer: layer.effects for layer in comparison.layers}
        for statistic, of_effects in _OF_EFFECTS.items():
            rows = [
                _or_nothing(of_effects(effects[name]) if name in effects else None, stats.channels)
                for name, stats in profile.items()
            ]
            yield statistic, _join(rows)


def pack(values: Array) -> str:
    """Pack numbers (N,) into base64 text, in the format that the module's docstring describes."""
    with np.errstate(over="ignore"):
        words = values.astype("<f4").view("<u4")
    sign, size = words & _SIGN, words & ~_SIGN
    # An infinity stays one, a NaN stays NaN, and rounding makes no infinity of a finite number.
    rounded = np.where(size < _INFINITE, np.minimum(size + np.uint32(0x80), _LARGEST), size)
    words = (sign | rounded).astype("<u4")
    planes = words.view(np.uint8).reshape(-1, 4)[:, 3:0:-1]
    return base64.b64encode(zlib.compress(planes.T.tobytes(), 9)).decode("ascii")


def _or_nothing(values: Array | None, channels: int) -> Array:
    return np.full(channels, np.nan) if values is None else values


def _join(rows: Sequence[Array]) -> Array:
    return np.concatenate([np.zeros(0), *rows])
