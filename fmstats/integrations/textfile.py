"""Write the numbers of one run for the textfile collector of Prometheus's node_exporter.

A file is written after each run, so all of its numbers are gauges: counts begin anew every time,
and `increase()` of a counter would compare them across runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import fmstats
from fmstats.errors import needs
from fmstats.integrations.metrics import RUN_METRICS
from fmstats.integrations.readings import Readings, Snapshot, clean_label

with needs("a file for Prometheus", "prometheus-client", "'fmstats[prometheus]'"):
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.core import Metric as Family
    from prometheus_client.registry import Collector

from fmstats.integrations.prometheus import make_family

Numbers = Mapping[str, float | Mapping[str, float] | None]
_SEVERITIES = {"errors": "error", "warnings": "warning", "infos": "info"}  # by measure


def render_run(
    profile: fmstats.Profile,
    diagnosis: fmstats.Diagnosis,
    comparison: fmstats.Comparison | None,
    *,
    model: str,
    passed: bool,
    seconds: float,
    conditions: Mapping[str, bool],
    layers: str | Iterable[str] = (),
    max_series: int = 2000,
) -> bytes:
    """Return the content of a file that tells of a run, in Prometheus's text format.

    What is not known is left out.

    Args:
        profile: of the run, as `fmstats.profile` gives it.
        diagnosis: of the profile.
        comparison: of the profile with its baseline; None without one.
        model: the label `model` of all series.
        passed: whether the check has passed.
        seconds: that it took.
        conditions: by text, whether each fails the check.
        layers: names or globs of layers that have series of their own; by default none.
        max_series: of all of these layers; the last layers are left out beyond that.
    """
    metadata, rows = profile.metadata, profile.layers()
    readings = Readings(profile, layers=layers, max_series=max_series, model=model)
    chosen = readings.select(profile)
    numbers: Numbers = {
        "fmstats_run_timestamp_seconds": datetime.fromisoformat(metadata["ended"]).timestamp(),
        "fmstats_run_duration_seconds": seconds,
        "fmstats_run_samples": metadata["samples"],
        "fmstats_run_skipped_samples": metadata["skipped_count"],
        "fmstats_run_layers": len(profile),
        "fmstats_run_unmeasured_layers": len(metadata["coverage"]),
        "fmstats_run_nan_elements": sum(row["nan"] for row in rows),
        "fmstats_run_infinite_elements": sum(row["inf"] for row in rows),
        "fmstats_run_omitted_series": chosen.omitted,
        "fmstats_check_passed": passed,
        "fmstats_check_findings": {
            severity: diagnosis.measures[name].at_least for name, severity in _SEVERITIES.items()
        },
        "fmstats_check_condition_failed": conditions,
        **_describe_drift(comparison),
    }
    registry = CollectorRegistry()
    registry.register(_Collected([*_list_run(numbers, clean_label(model)), *_list_layers(chosen)]))
    return generate_latest(registry)


class _Collected(Collector):
    """Gives a registry what was collected before."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> list[Family]:
        """Return the families."""
        return self._families


def _describe_drift(comparison: fmstats.Comparison | None) -> Numbers:
    known = comparison is not None and comparison.verdict != "not enough data"
    return {
        "fmstats_drift_found": bool(comparison) if known else None,
        "fmstats_drift_score": None if comparison is None else comparison.score,
        "fmstats_drift_threshold": None if comparison is None else comparison.threshold,
    }


def _list_run(numbers: Numbers, model: str) -> Iterator[Family]:
    """Yield a family for each metric of `RUN_METRICS` whose number is known."""
    for metric in RUN_METRICS:
        value = numbers[metric.name]
        labels = ["model"] if metric.label is None else ["model", metric.label]
        family = GaugeMetricFamily(metric.name, metric.help, labels=labels)
        if isinstance(value, Mapping):
            for label, number in value.items():
                family.add_metric([model, clean_label(label)], number)
        elif value is not None and not math.isnan(value):
            family.add_metric([model], value)
        if family.samples:
            yield family


def _list_layers(snapshot: Snapshot) -> Iterator[Family]:
    for metric, rows in snapshot.rows.items():
        if rows:
            yield make_family(GaugeMetricFamily, metric, rows)
