"""Export statistics of a running model's feature maps to prometheus-client.

REGISTRY.register(ProfileCollector(tracker, layers="layer*", top_channels=10))
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from fmstats.errors import needs
from fmstats.integrations.metrics import LABELS, Metric
from fmstats.integrations.readings import Readings, Rows, Snapshot, Source, gather

with needs("fmstats.integrations.prometheus", "prometheus-client", "'fmstats[prometheus]'"):
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.core import Metric as Family
    from prometheus_client.registry import Collector, CollectorRegistry
    from prometheus_client.utils import floatToGoString


class ProfileCollector(Collector):
    """Collects gauges and counters of each layer, named as docs/integrations.md lists them.

    A scrape comes from another thread than the forward passes and may come at any time: numbers
    are of whole batches, and the device is read at most once in `min_interval` seconds. Statistics
    are of all that was seen since the tracker began or was reset; a reset is to Prometheus what
    the start of a process is.

    Several collectors in one registry are distinguished by the label `model`: the class of the
    model, with a number behind it where there are two of a class, or the name given as `model=`.
    The first of them then gives the metrics of all.

    Args:
        source: a tracker, a profile, or a function that gives one; it is not closed.
        **options: `layers`, `stats`, `top_channels`, `top_by`, `histograms`, `max_series`,
            `min_interval` and `model`: see `fmstats.integrations.readings.Readings`.

    Raises:
        FmstatsError: an unknown statistic, or a number out of its range.
    """

    def __init__(self, source: Source, **options: Any) -> None:
        self._readings = Readings(source, **options)

    def describe(self) -> Iterator[Family]:
        """Return the metrics without numbers: registering a collector reads no device."""
        others = _find_collectors()
        return iter(()) if others else self._families([self], Snapshot())

    def collect(self) -> Iterator[Family]:
        """Return the metrics for a scrape."""
        together = _find_collectors()
        if self not in together:
            together = [self]
        if self is together[0]:
            snapshot = gather(each._readings for each in together)
            yield from self._families(together, snapshot)

    def _families(
        self, together: Sequence[ProfileCollector], snapshot: Snapshot
    ) -> Iterator[Family]:
        metrics = (metric for each in together for metric in each._readings.metrics)
        for metric in dict.fromkeys(metrics):
            make = CounterMetricFamily if metric.counts_up else GaugeMetricFamily
            yield make_family(make, metric, snapshot.rows.get(metric, []))
        if any(each._readings.has_histograms for each in together):
            yield _histogram_family(snapshot)
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


def _find_collectors() -> list[ProfileCollector]:
    """Return the collectors of the calling registry, in the order of registration.

    A metric must be in a scrape once, whoever gives it, but prometheus-client tells a collector
    neither which registry it is in nor what else is there: hence the look at who is calling.
    """
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        # One restricted to some names has the registry behind it.
        registry = getattr(caller, "_registry", caller)
        if isinstance(registry, CollectorRegistry):
            known = dict(getattr(registry, "_collector_to_names", ()))
            return [each for each in known if isinstance(each, ProfileCollector)]
        frame = frame.f_back
    return []


def make_family(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily], metric: Metric, rows: Rows
) -> Family:
    """Make the family of this kind that has these numbers of layers or channels."""
    labels = LABELS[metric.of]
    family = kind(f"fmstats_{metric.of}_{metric.name}", metric.help, labels=labels)
    for values, number in rows:
        family.add_metric([values[label] for label in labels], number)
    return family


def _histogram_family(snapshot: Snapshot) -> Family:
    """Return the histograms of layers. They have no sum: with negative elements it may fall."""
    labels = LABELS["layer"]
    family = HistogramMetricFamily(
        "fmstats_layer_distribution", "Finite elements of a layer", labels=labels
    )
    for values, buckets in snapshot.histograms:
        named = [(floatToGoString(edge), count) for edge, count in buckets]  # type: ignore[no-untyped-call]
        family.add_metric([values[label] for label in labels], named, None)
    return family
