"""Export statistics of a running model's feature maps as OpenTelemetry instruments."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

import fmstats
from fmstats.errors import needs
from fmstats.integrations.metrics import Metric
from fmstats.integrations.readings import Readings, Rows, Snapshot, Source, gather

with needs("fmstats.integrations.opentelemetry", "opentelemetry", "'fmstats[opentelemetry]'"):
    from opentelemetry import metrics
    from opentelemetry.metrics import CallbackOptions, Meter, Observation


def observe(source: Source, meter: Meter | None = None, **options: Any) -> None:
    """Make an instrument for each statistic: `fmstats.layer.mean` and so on.

    They are asked when a reader of the SDK collects, in its thread; all of them together read the
    device at most once in `min_interval` seconds. `model`, `layer` and `channel` are attributes.

    Several models may be observed with one meter: they are distinguished by `model`, the class of
    the model, with a number behind it where there are two of a class, or the name given as
    `model=`.

    Args:
        source: a tracker, a profile, or a function that gives one.
        meter: what makes the instruments; None: that of the global provider.
        **options: `layers`, `stats`, `top_channels`, `top_by`, `max_series`, `min_interval` and
            `model`: see `fmstats.integrations.readings.Readings`.

    Raises:
        FmstatsError: an unknown statistic, or a number out of its range.
    """
    readings = Readings(source, **options)
    if readings.has_histograms:
        raise fmstats.FmstatsError(
            "histograms= is for Prometheus: OpenTelemetry has no histogram that is observed"
        )
    with _lock:
        if meter is None:
            meter = _usual_meter()
        _instruments.setdefault(meter, _Instruments()).add(readings, meter)


class _Instruments:
    """Holds the instruments of a meter, each once: an SDK drops a second one of its name."""

    def __init__(self) -> None:
        self._readings: list[Readings] = []
        self._made: set[Metric] = set()

    def add(self, readings: Readings, meter: Meter) -> None:
        """Observe one more model, with the instruments that it needs beside those there are."""
        self._readings.append(readings)
        for metric in readings.metrics:
            if metric not in self._made:
                gauge, counter = meter.create_observable_gauge, meter.create_observable_counter
                make: Callable[..., object] = counter if metric.counts_up else gauge
                ask = self._ask(partial(_rows_of, metric))
                make(f"fmstats.{metric.of}.{metric.stat}", [ask], metric.unit, metric.help)
        self._made.update(readings.metrics)
        if len(self._readings) == 1:
            meter.create_observable_gauge(
                "fmstats.omitted_series",
                [self._ask(lambda snapshot: [({}, snapshot.omitted)])],
                "{series}",
                "Series left out because of max_series",
            )
            meter.create_observable_counter(
                "fmstats.read_errors",
                [self._ask(lambda snapshot: [({}, snapshot.errors)])],
                "{error}",
                "Times the source could not be read",
            )

    def _ask(
        self, choose: Callable[[Snapshot], Rows]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """Answer a reader that collects an instrument."""

        def observe_now(options: CallbackOptions) -> Iterable[Observation]:
            rows = choose(gather(list(self._readings)))
            return [Observation(number, labels) for labels, number in rows]

        return observe_now


_lock = threading.Lock()
_instruments: weakref.WeakKeyDictionary[Meter, _Instruments] = weakref.WeakKeyDictionary()


@cache
def _usual_meter() -> Meter:
    """Return a meter of the global provider; without a provider, each call makes another."""
    return metrics.get_meter("fmstats", fmstats.__version__)


def _rows_of(metric: Metric, snapshot: Snapshot) -> Rows:
    return snapshot.rows.get(metric, [])
