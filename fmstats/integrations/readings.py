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
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import fmstats
from fmstats.integrations.histograms import Buckets, has_histogram, list_buckets
from fmstats.integrations.metrics import (
    CHANNEL_METRICS,
    DEFAULT,
    LAYER_METRICS,
    Metric,
    find_metric,
)
from fmstats.models.selection import has_name
from fmstats.profiles.scalars import has_number

Source = fmstats.Tracker | fmstats.Profile | Callable[[], fmstats.Profile]

Rows = list[tuple[dict[str, str], float]]
Histograms = Sequence[tuple[dict[str, str], Buckets]]


@dataclass(frozen=True)
class Snapshot:
    """Holds what was read at one time.

    Attributes:
        rows: of each metric, the labels and the number of each of its series.
        histograms: the labels and the buckets of the elements of layers.
        omitted: series left out because of `max_series`.
        errors: reads that have failed so far.
        time: of the last read that succeeded, seconds since 1970; None before one has. Of several
            models, of the one that was read the longest ago.
    """

    rows: Mapping[Metric, Rows] = field(default_factory=dict)
    histograms: Histograms = ()
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
        histograms: names or globs of layers whose histograms of elements are read as well, if they
            were measured, a series a bucket; none by default.
        max_series: no more series than that; whole layers are left out, the last ones first, and
            channels before any layer, and histograms before channels.
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
        histograms: str | Iterable[str] = (),
        max_series: int = 2000,
        min_interval: float = 15.0,
        model: str | None = None,
    ) -> None:
        stats = (stats,) if isinstance(stats, str) else stats
        self.metrics = tuple(find_metric(stat, LAYER_METRICS) for stat in stats)
        self._top_metric = find_metric(top_by, CHANNEL_METRICS)
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
        self._layers = None if layers is None else _listed(layers)
        self._histograms = _listed(histograms)
        self._min_interval, self._model = min_interval, model
        if not (isinstance(source, fmstats.Tracker | fmstats.Profile) or callable(source)):
            raise fmstats.FmstatsError(
                f"source is of type {type(source).__name__}: give a Tracker, a Profile, or a "
                "function that returns a Profile"
            )
        self._lock = threading.Lock()
        self._snapshot, self._due = Snapshot(), -math.inf

    @property
    def has_histograms(self) -> bool:
        """Return whether histograms of some layers are asked for."""
        return bool(self._histograms)

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
            return self.select(self._profile(), before.errors)
        except Exception:
            logging.getLogger(__name__).exception("fmstats cannot read its source")
            return Snapshot(errors=before.errors + 1, time=before.time)

    def _profile(self) -> fmstats.Profile:
        if isinstance(self._source, fmstats.Tracker):
            return self._source.stats()
        return self._source if isinstance(self._source, fmstats.Profile) else self._source()

    def select(self, profile: fmstats.Profile, errors: int = 0) -> Snapshot:
        """Return the numbers of a profile that are asked for; `errors` goes into the result."""
        name = profile.metadata.get("model") if self._model is None else self._model
        model = clean_label(name) if isinstance(name, str) else ""
        layers = [
            row
            for row, known in zip(profile.layers(), profile.info.values(), strict=True)
            if _fits(self._layers, row["layer"]) or _fits(self._layers, known.layer or "")
        ]
        rows: dict[Metric, Rows] = {metric: [] for metric in self.metrics}
        left, omitted = self._most, 0
        for layer in layers:
            labels = {"model": model, "layer": clean_label(layer["layer"])}
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
            labels = {"model": model, "layer": clean_label(name), "channel": str(channel)}
            rows[self._top_metric].append((labels, number))
        omitted += len(top) - taken
        histograms, left = [], left - taken
        for layer in layers:
            stats = profile[layer["layer"]]
            if _fits(self._histograms, layer["layer"]) and has_histogram(stats):
                buckets = list_buckets(stats)
                if omitted or len(buckets) > left:
                    omitted += len(buckets)
                    continue
                left -= len(buckets)
                labels = {"model": model, "layer": clean_label(layer["layer"])}
                histograms.append((labels, buckets))
        return Snapshot(rows, histograms, omitted, errors, time.time())

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
    histograms: list[tuple[dict[str, str], Buckets]] = []
    taken: set[str] = set()
    for snapshot in snapshots:
        series = (*snapshot.rows.values(), snapshot.histograms)
        found = {labels["model"] for each in series for labels, _ in each}
        names = {name: _find_free(name, taken) for name in sorted(found)}
        taken |= {*names.values()}
        histograms += [
            ({**labels, "model": names[labels["model"]]}, buckets)
            for labels, buckets in snapshot.histograms
        ]
        for metric, each in snapshot.rows.items():
            renamed = [({**labels, "model": names[labels["model"]]}, n) for labels, n in each]
            rows.setdefault(metric, []).extend(renamed)
    times = [snapshot.time for snapshot in snapshots if snapshot.time is not None]
    return Snapshot(
        rows,
        histograms,
        sum(snapshot.omitted for snapshot in snapshots),
        sum(snapshot.errors for snapshot in snapshots),
        min(times, default=None),
    )


def _find_free(name: str, taken: Collection[str]) -> str:
    numbered = (f"{name}#{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)


def _listed(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _fits(asked: tuple[str, ...] | None, layer: str) -> bool:
    """Tell whether a layer is one of those asked for, by names or globs; None: all are."""
    return asked is None or any(has_name(name, layer) for name in asked)


def _is_number(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def clean_label(label: str) -> str:
    """Return a label that can be sent as UTF-8: Python names may hold lone surrogates."""
    return label.encode("utf-8", "replace").decode()
