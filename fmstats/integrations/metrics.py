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
