"""A collector for prometheus-client: what the feature maps of a running model are like.

REGISTRY.register(ProfileCollector(tracker, layers="layer*", top_channels=10))
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fmstats
from fmstats.integrations.readings import LABELS, Metric, Readings, Rows, Snapshot, Source

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.core import Metric as Family
    from prometheus_client.registry import Collector
except ImportError as error:
    raise fmstats.FmstatsError(
        "fmstats.integrations.prometheus needs prometheus-client, which cannot be imported "
        f"({error}): pip install 'fmstats[prometheus]'"
    ) from error


class ProfileCollector(Collector):
    """Gauges and counters of each layer, named as docs/integrations.md lists them.

    A scrape comes from another thread than the forward passes and may come at any time: numbers
    are of whole batches, and the device is read at most once in `min_interval` seconds. Statistics
    are of all that was seen since the tracker began or was reset; a reset is to Prometheus what
    the start of a process is.

    Args:
        source: a tracker, a profile, or a function that gives one; it is not closed.
        **options: `layers`, `stats`, `top_channels`, `top_by`, `max_series` and `min_interval`:
            see `fmstats.integrations.readings.Readings`.

    Raises:
        FmstatsError: an unknown statistic, or a number out of its range.
    """

    def __init__(self, source: Source, **options: Any) -> None:
        self._readings = Readings(source, **options)

    def describe(self) -> Iterator[Family]:
        """The metrics without numbers: registering a collector reads no device."""
        return self._families(Snapshot())

    def collect(self) -> Iterator[Family]:
        """The metrics, for a scrape."""
        return self._families(self._readings.read())

    def _families(self, snapshot: Snapshot) -> Iterator[Family]:
        for metric in self._readings.metrics:
            yield _family(metric, snapshot.rows.get(metric, []))
        yield GaugeMetricFamily(
            "fmstats_omitted_series", "Series left out because of max_series", snapshot.omitted
        )
        yield CounterMetricFamily(
            "fmstats_read_errors", "Times the source could not be read", snapshot.errors
        )
        yield GaugeMetricFamily(
            "fmstats_last_read_timestamp_seconds",
            "When the source was read, since 1970",
            snapshot.time,
        )


def _family(metric: Metric, rows: Rows) -> Family:
    make = CounterMetricFamily if metric.counts_up else GaugeMetricFamily
    labels = LABELS[metric.of]
    family = make(f"fmstats_{metric.of}_{metric.name}", metric.help, labels=labels)
    for values, number in rows:
        family.add_metric([values[label] for label in labels], number)
    return family
