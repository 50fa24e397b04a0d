"""Select what monitoring systems read of a running model: few numbers, rarely.

The part that exporters share. Whoever asks, and however often, the device is read at most once in
`min_interval` seconds, and never more than `max_series` time series come out.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import fmstats
from fmstats.models.selection import has_name
from fmstats.profiles.scalars import has_number

Source = fmstats.Tracker | fmstats.Profile | Callable[[], fmstats.Profile]


LABELS = {"layer": ("model", "layer"), "channel": ("model", "layer", "channel")}
_SHARE, _CHANNELS, _ELEMENTS = "1", "{channel}", "{element}"


@dataclass(frozen=True)
class Metric:
    """Describes one number of all layers, or of some channels.

    Attributes:
        of: "layer" or "channel"; it has the labels `LABELS[of]`.
        stat: a column of `Profile.layers()`; of a channel, an attribute of `ChannelStats`.
        name: for Prometheus, with its unit.
        unit: for OpenTelemetry; "" for that of the activations, which have none.
        help: one sentence.
        counts_up: whether it grows as long as tracking goes on.
    """

    of: str
    stat: str
    name: str
    unit: str
    help: str
    counts_up: bool = False


LAYER_METRICS = (
    Metric("layer", "mean", "mean", "", "Mean of the finite elements"),
    Metric("layer", "mean_spread", "mean_spread", "", "Standard deviation of the channels' means"),
    Metric("layer", "std", "std", "", "Standard deviation of the finite elements"),
    Metric("layer", "min", "min", "", "Smallest finite element"),
    Metric("layer", "max", "max", "", "Largest finite element"),
    Metric("layer", "sparsity", "sparsity_ratio", _SHARE, "Share of zeros"),
    Metric("layer", "saturated", "saturated_ratio", _SHARE, "Share beyond saturation bounds"),
    Metric("layer", "channels", "channels", _CHANNELS, "Channels"),
    Metric("layer", "dead", "dead_channels", _CHANNELS, "Channels of more than 99 % zeros"),
    Metric("layer", "never_active", "never_active_channels", _CHANNELS, "Channels always zero"),
    Metric("layer", "count", "elements", _ELEMENTS, "Elements seen", counts_up=True),
    Metric("layer", "nan", "nan_elements", _ELEMENTS, "NaN elements seen", counts_up=True),
    Metric("layer", "inf", "infinite_elements", _ELEMENTS, "Infinities seen", counts_up=True),
)
DEFAULT = (
    *("mean", "std", "min", "max", "sparsity", "saturated", "channels", "dead"),
    *("count", "nan", "inf"),
)

# None counts up: a channel that is no longer among the first ones has no number any more.
CHANNEL_METRICS = (
    Metric("channel", "mean", "mean", "", "Mean of a channel's finite elements"),
    Metric("channel", "std", "std", "", "Standard deviation of a channel's finite elements"),
    Metric("channel", "abs_max", "abs_max", "", "Largest magnitude in a channel"),
    Metric("channel", "sparsity", "sparsity_ratio", _SHARE, "Share of zeros in a channel"),
    Metric("channel", "saturated", "saturated_ratio", _SHARE, "Share beyond saturation bounds"),
    Metric("channel", "nan", "nan_elements", _ELEMENTS, "NaN elements seen in a channel"),
)

Rows = list[tuple[dict[str, str], float]]


@dataclass(frozen=True)
class Snapshot:
    """Holds what was read at one time.

    Attributes:
        rows: of each metric, the labels and the number of each of its series.
        omitted: series left out because of `max_series`.
        errors: reads that have failed so far.
        time: of the last read that succeeded, seconds since 1970; None before one has. Of several
            models, of the one that was read the longest ago.
    """

    rows: Mapping[Metric, Rows] = field(default_factory=dict)
    omitted: int = 0
    errors: int = 0
    time: float | None = None


class Readings:
    """Reads a source at most once per interval, and selects what is worth a time series.

    Args:
        source: a tracker, which may run in another thread; a profile; or a function that gives one.
        layers: names or globs; None: all that were measured. A root that is tracked itself is
            called `(model)`.
        stats: which of `LAYER_METRICS`, by `stat`.
        top_channels: how many channels of the whole model have a series, those with the largest
            number of `top_by`. Which ones they are changes with time.
        top_by: one of `CHANNEL_METRICS`, by `stat`.
        max_series: no more series than that; whole layers are left out, the last ones first, and
            channels before any layer.
        min_interval: seconds in which those who ask again get the same numbers.
        model: what the label `model` says; None: the name of the model's class.

    Attributes:
        metrics: those that are read.

    Raises:
        FmstatsError: an unknown statistic, or a number out of its range.
    """

    def __init__(
        self,
        source: Source,
        *,
        layers: str | Iterable[str] | None = None,
        stats: str | Iterable[str] = DEFAULT,
        top_channels: int = 0,
        top_by: str = "sparsity",
        max_series: int = 2000,
        min_interval: float = 15.0,
        model: str | None = None,
    ) -> None:
        stats = (stats,) if isinstance(stats, str) else stats
        self.metrics = tuple(_metric(stat, LAYER_METRICS) for stat in stats)
        self._top_metric = _metric(top_by, CHANNEL_METRICS)
        if top_channels:
            self.metrics += (self._top_metric,)
        for name, value in (
            ("top_channels", top_channels),
            ("max_series", max_series),
            ("min_interval", min_interval),
        ):
            if not 0 <= value < math.inf:
                raise fmstats.FmstatsError(f"{name}={value!r}: give a finite number, 0 or more")
        self._source, self._most_channels, self._most = source, top_channels, max_series
        self._layers = (layers,) if isinstance(layers, str) else layers and tuple(layers)
        self._min_interval, self._model = min_interval, model
        if not (isinstance(source, fmstats.Tracker | fmstats.Profile) or callable(source)):
            raise fmstats.FmstatsError(
                f"source is of type {type(source).__name__}: give a Tracker, a Profile, or a "
                "function that returns a Profile"
            )
        self._lock = threading.Lock()
        self._snapshot, self._due = Snapshot(), -math.inf

    def read(self) -> Snapshot:
        """Return the current numbers, at most `min_interval` old; from any thread.

        A source that fails leaves no numbers, and counts as an error: whoever monitors other
        things, too, gets those.
        """
        with self._lock:  # of several that ask at once, one reads
            if time.monotonic() >= self._due:
                self._snapshot = self._take()
                self._due = time.monotonic() + self._min_interval
            return self._snapshot

    def _take(self) -> Snapshot:
        before = self._snapshot
        try:
            return self._select(self._profile(), before.errors)
        except Exception:
            logging.getLogger(__name__).exception("fmstats cannot read its source")
            return Snapshot(errors=before.errors + 1, time=before.time)

    def _profile(self) -> fmstats.Profile:
        if isinstance(self._source, fmstats.Tracker):
            return self._source.stats()
        return self._source if isinstance(self._source, fmstats.Profile) else self._source()

    def _select(self, profile: fmstats.Profile, errors: int) -> Snapshot:
        name = profile.metadata.get("model") if self._model is None else self._model
        model = _clean(name) if isinstance(name, str) else ""
        layers = [
            row
            for row, known in zip(profile.layers(), profile.info.values(), strict=True)
            if self._is_chosen(row["layer"]) or self._is_chosen(known.layer or "")
        ]
        rows: dict[Metric, Rows] = {metric: [] for metric in self.metrics}
        left, omitted = self._most, 0
        for layer in layers:
            labels = {"model": model, "layer": _clean(layer["layer"])}
            numbers = {
                metric: float(layer[metric.stat])
                for metric in self.metrics
                if metric.of == "layer" and has_number(layer, metric.stat)
            }
            if omitted or len(numbers) > left:
                omitted += len(numbers)
                continue
            left -= len(numbers)
            for metric, number in numbers.items():
                rows[metric].append((labels, number))
        top = self._top(profile, [layer["layer"] for layer in layers])
        taken = 0 if omitted else min(left, len(top))
        for number, name, channel in top[:taken]:
            labels = {"model": model, "layer": _clean(name), "channel": str(channel)}
            rows[self._top_metric].append((labels, number))
        return Snapshot(rows, omitted + len(top) - taken, errors, time.time())

    def _is_chosen(self, layer: str) -> bool:
        if self._layers is None:
            return True
        return any(has_name(name, layer) for name in self._layers)

    def _top(self, profile: fmstats.Profile, layers: list[str]) -> list[tuple[float, str, int]]:
        if not self._most_channels:
            return []
        found = []
        for layer in layers:
            values = getattr(profile[layer], self._top_metric.stat)
            if values is not None:
                found += [(float(v), layer, i) for i, v in enumerate(values) if _is_number(v)]
        return heapq.nlargest(self._most_channels, found, key=lambda row: row[0])


def gather(readings: Iterable[Readings]) -> Snapshot:
    """Combine the numbers of several models: exporters need each metric once for all of them.

    Of models of one name, those after the first get a number: `Net`, `Net#2`.
    """
    snapshots = [each.read() for each in readings]
    rows: dict[Metric, Rows] = {}
    taken: set[str] = set()
    for snapshot in snapshots:
        found = {labels["model"] for each in snapshot.rows.values() for labels, _ in each}
        names = {name: _find_free(name, taken) for name in sorted(found)}
        taken |= {*names.values()}
        for metric, each in snapshot.rows.items():
            renamed = [({**labels, "model": names[labels["model"]]}, n) for labels, n in each]
            rows.setdefault(metric, []).extend(renamed)
    times = [snapshot.time for snapshot in snapshots if snapshot.time is not None]
    return Snapshot(
        rows,
        sum(snapshot.omitted for snapshot in snapshots),
        sum(snapshot.errors for snapshot in snapshots),
        min(times, default=None),
    )


def _find_free(name: str, taken: Collection[str]) -> str:
    numbered = (f"{name}#{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)


def _metric(stat: str, metrics: tuple[Metric, ...]) -> Metric:
    for metric in metrics:
        if metric.stat == stat:
            return metric
    known = ", ".join(metric.stat for metric in metrics)
    raise fmstats.FmstatsError(f"unknown statistic {stat!r} of a {metrics[0].of}: choose {known}")


def _is_number(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _clean(label: str) -> str:
    """Return a label that can be sent as UTF-8: Python names may hold lone surrogates."""
    return label.encode("utf-8", "replace").decode()
