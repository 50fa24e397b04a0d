"""Make scales and zero points of a profile."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmstats.calibration.expected import expect_error
from fmstats.calibration.layer import LayerQParams
from fmstats.calibration.methods import Method, read_method
from fmstats.calibration.qparams import QParams
from fmstats.calibration.rows import Row, need_distributions, rows_of
from fmstats.calibration.schemes import Scheme, read_scheme
from fmstats.errors import FmstatsError
from fmstats.models.selection import fitting_names
from fmstats.profiles.layer_profile import LayerProfile
from fmstats.profiles.profile import Profile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.distribution import Array

PER = ("tensor", "channel")
DEFAULT_Q = 0.9999


def calibrate(
    profile: Profile,
    scheme: str,
    method: str = "mse",
    *,
    per: str = "tensor",
    q: float | None = None,
    layers: str | Iterable[str] | None = None,
) -> QParams:
    """Return the scales and zero points with which activations are to be stored in 8 bits.

    NaN and infinities never enter. What showed no number but one, a channel that was never active
    for example, has a scale that loses nothing, and is listed in `QParams.neutral`.

    Args:
        profile: of the activations.
        scheme: a name of `fmstats.calibration.SCHEMES`.
        method: a name of `fmstats.calibration.METHODS`. All but "absmax" need histograms.
        per: "tensor": one scale a layer; "channel": one for each of its channels.
        q: of "percentile": the share of numbers that is not clipped; None: 0.9999.
        layers: names or globs of layers; None: all.

    Raises:
        FmstatsError: no such scheme, method or layer, or a histogram is missing.
    """
    chosen = read_scheme(scheme)
    way = read_method(method, chosen)
    if per not in PER:
        raise FmstatsError(f"per={per!r}: choose {' or '.join(map(repr, PER))}")
    share = _read_share(q, method)
    asked = _Asked(chosen, way, per, share)
    rows = _choose(profile, layers)
    if way.distribution:
        for name, row in rows.items():
            need_distributions(name, row.stats, per, method)
    found = {name: asked.of_layer(name, row) for name, row in rows.items()}
    settings: dict[str, Any] = {"scheme": scheme, "method": method, "per": per}
    if method == "percentile":
        settings["q"] = share
    return QParams(found, {**settings, "of": str(profile.metadata.get("of", "output"))})


def _read_share(q: float | None, method: str) -> float:
    if q is None:
        return DEFAULT_Q
    if method != "percentile":
        raise FmstatsError(f"q={q!r} is for method='percentile', not {method!r}: leave it out")
    if not 0 < q <= 1:
        raise FmstatsError(f"q={q!r}: give the share of numbers that is kept, above 0, at most 1")
    return float(q)


def _choose(profile: Profile, layers: str | Iterable[str] | None) -> dict[str, LayerProfile]:
    if layers is None:
        return dict(profile.info)
    patterns = [layers] if isinstance(layers, str) else list(layers)
    names = {name for pattern in patterns for name in fitting_names(pattern, profile, "layers")}
    return {name: row for name, row in profile.info.items() if name in names}


@dataclass(frozen=True)
class _Asked:
    """Holds what was asked for, of every layer alike."""

    scheme: Scheme
    method: Method
    per: str
    share: float

    def of_layer(self, name: str, layer: LayerProfile) -> LayerQParams:
        single = self.per == "tensor" or layer.channel_dim is None
        rows = list(rows_of(layer.stats, "tensor" if single else "channel"))
        ranges = np.array([self._range(row) for row in rows]).reshape(-1, 2)
        scale, zero_point = self.scheme.parameters(ranges[:, 0], ranges[:, 1])
        unused = [
            i for i, row in enumerate(rows) if row.high == row.low == 0 or math.isnan(row.low)
        ]
        scale[unused] = 1.0
        return LayerQParams(
            scale[0] if single else scale,
            zero_point[0] if single else zero_point,
            self.scheme.name,
            layer.layer or name,
            None if single else layer.channel_dim,
            self._clipped(rows, scale, zero_point),
            _signal_to_noise(rows, self.scheme, ranges, layer.stats),
            tuple(i for i, row in enumerate(rows) if row.single),
        )

    def _range(self, row: Row) -> tuple[float, float]:
        if math.isnan(row.low):
            return 0.0, 0.0
        return (row.low, row.high) if row.single else self.method.find(row, self.scheme, self.share)

    def _clipped(self, rows: Sequence[Row], scale: Array, zero_point: Array) -> float:
        low, high = self.scheme.reach(scale, zero_point)
        beyond = [
            _count_clipped(row, *ends)
            for row, *ends in zip(rows, low.tolist(), high.tolist(), strict=True)
        ]
        return sum(beyond) / max(sum(row.total for row in rows), 1.0)


def _count_clipped(row: Row, low: float, high: float) -> float:
    """Return how many numbers are beyond these bounds, as far as bins tell."""
    if row.known is None or row.single:
        return 0.0
    inside = row.known.rebinned(np.array([low, high]))[0, 0]
    return max(row.total - float(inside), 0.0)


def _signal_to_noise(
    rows: Sequence[Row], scheme: Scheme, ranges: Array, stats: ChannelStats
) -> float | None:
    if any(row.known is None for row in rows):
        return None
    errors = [
        0.0 if row.single else float(expect_error(row, scheme, low, high)[0]) * row.total
        for row, low, high in zip(rows, ranges[:, :1], ranges[:, 1:], strict=True)
    ]
    with np.errstate(over="ignore", invalid="ignore"):
        signal = float(np.nansum(stats.rms**2 * stats.finite_count))
    noise = sum(errors)
    known = 0 < signal < math.inf and 0 < noise < math.inf
    return 10 * math.log10(signal / noise) if known else None
