"""These metrics are what monitoring systems can read of a model."""

from __future__ import annotations

from dataclasses import dataclass

import fmstats

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


def find_metric(stat: str, metrics: tuple[Metric, ...]) -> Metric:
    """Return the one of these metrics that shows a statistic.

    Raises:
        FmstatsError: none does.
    """
    for metric in metrics:
        if metric.stat == stat:
            return metric
    known = ", ".join(metric.stat for metric in metrics)
    raise fmstats.FmstatsError(f"unknown statistic {stat!r} of a {metrics[0].of}: choose {known}")


@dataclass(frozen=True)
class RunMetric:
    """Describes one number of a whole run, which a file for Prometheus has.

    Attributes:
        name: for Prometheus, with its unit.
        help: one sentence.
        label: beside `model`; None: there is none.
    """

    name: str
    help: str
    label: str | None = None


RUN_METRICS = (
    RunMetric("fmstats_run_timestamp_seconds", "When the run ended, since 1970"),
    RunMetric("fmstats_run_duration_seconds", "How long the run and its judgement took"),
    RunMetric("fmstats_run_samples", "Samples that were measured"),
    RunMetric("fmstats_run_skipped_samples", "Samples or batches that were left out"),
    RunMetric("fmstats_run_layers", "Layers that were measured"),
    RunMetric("fmstats_run_unmeasured_layers", "Selected layers that were not measured in full"),
    RunMetric("fmstats_run_nan_elements", "NaN elements in all layers"),
    RunMetric("fmstats_run_infinite_elements", "Infinities in all layers"),
    RunMetric("fmstats_run_omitted_series", "Series of layers left out, since there are too many"),
    RunMetric("fmstats_check_passed", "1 if the check has passed, else 0"),
    RunMetric("fmstats_check_findings", "Findings that repeat no other", "severity"),
    RunMetric(
        "fmstats_check_condition_failed",
        "1 if the condition holds or cannot be judged, else 0",
        "condition",
    ),
    RunMetric("fmstats_drift_found", "1 if there is drift from the baseline, else 0"),
    RunMetric("fmstats_drift_score", "Score of the drift from the baseline, about 1 by chance"),
    RunMetric("fmstats_drift_threshold", "It is drift if the score is at least this"),
)
