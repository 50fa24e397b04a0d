"""Observable instruments of OpenTelemetry: what the feature maps of a running model are like."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import fmstats
from fmstats.integrations.readings import Metric, Readings, Rows, Snapshot, Source

try:
    from opentelemetry import metrics
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
except ImportError as error:
    raise fmstats.FmstatsError(
        "fmstats.integrations.opentelemetry needs opentelemetry, which cannot be imported "
        f"({error}): pip install 'fmstats[opentelemetry]'"
    ) from error


def observe(source: Source, meter: Meter | None = None, **options: Any) -> None:
    """Make an instrument for each statistic: `fmstats.layer.mean` and so on.

    They are asked when a reader of the SDK collects, in its thread; all of them together read the
    device at most once in `min_interval` seconds. `model`, `layer` and `channel` are attributes.

    Args:
        source: a tracker, a profile, or a function that gives one.
        meter: what makes the instruments; None: that of the global provider.
        **options: `layers`, `stats`, `top_channels`, `top_by`, `max_series` and `min_interval`:
            see `fmstats.integrations.readings.Readings`.

    Raises:
        FmstatsError: an unknown statistic, or a number out of its range.
    """
    readings = Readings(source, **options)
    if meter is None:
        meter = metrics.get_meter("fmstats", fmstats.__version__)
    for metric in readings.metrics:
        gauge, counter = meter.create_observable_gauge, meter.create_observable_counter
        make: Callable[..., object] = counter if metric.counts_up else gauge
        ask = _ask(readings, partial(_rows_of, metric))
        make(f"fmstats.{metric.of}.{metric.stat}", [ask], metric.unit, metric.help)
    meter.create_observable_gauge(
        "fmstats.omitted_series",
        [_ask(readings, lambda snapshot: [({}, snapshot.omitted)])],
        "{series}",
        "Series left out because of max_series",
    )
    meter.create_observable_counter(
        "fmstats.read_errors",
        [_ask(readings, lambda snapshot: [({}, snapshot.errors)])],
        "{error}",
        "Times the source could not be read",
    )


def _rows_of(metric: Metric, snapshot: Snapshot) -> Rows:
    return snapshot.rows.get(metric, [])


def _ask(
    readings: Readings, choose: Callable[[Snapshot], Rows]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """What an instrument calls when a reader collects."""

    def observe_now(options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(number, labels) for labels, number in choose(readings.read())]

    return observe_now
