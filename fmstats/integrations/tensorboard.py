"""Write profiles to TensorBoard: numbers and histograms of layers, histograms over channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

import fmstats
from fmstats.integrations.histograms import describe_raw, has_histogram

_BUCKETS = 30
_CHANNEL_STATS = (
    *("mean", "std", "var", "min", "max", "rms", "abs_max", "sparsity", "saturated"),
    *("count", "finite_count", "nan", "pos_inf", "neg_inf", "zeros"),
)


def write(
    writer: Any,
    profile: fmstats.Profile,
    step: int,
    *,
    stats: str | Iterable[str] | None = None,
    channels: str | Iterable[str] = ("mean", "std", "sparsity"),
    histograms: bool = True,
    prefix: str = "fmstats/",
) -> None:
    """Write a profile's scalars, and histograms of each layer.

    The histogram of a layer's elements is there if `track(measure="histogram")` asked for it; its
    tag is `{prefix}elements/{layer}`. A histogram over channels shows one number a channel: how the
    means of 64 channels are distributed, say. It says nothing of the activations within a channel.
    Its tag is `{prefix}channels/{layer}.{stat}`, that of a scalar `{prefix}{layer}.{stat}`.

    Args:
        writer: a `torch.utils.tensorboard.SummaryWriter`, or what has its `add_scalar` and
            `add_histogram_raw`.
        profile: what to show; an interval's, or that of all that was seen so far.
        step: where to show it.
        stats: which scalars; see `Profile.scalars`.
        channels: which attributes of `ChannelStats` have histograms; () for none.
        histograms: whether the elements of layers have them, where they were measured.
        prefix: what all tags begin with.

    Raises:
        FmstatsError: there is no such statistic. Nothing is written.
    """
    shown = (channels,) if isinstance(channels, str) else tuple(channels)
    for stat in shown:
        if stat not in _CHANNEL_STATS:
            raise fmstats.FmstatsError(
                f"no histogram over channels of {stat!r}: choose {', '.join(_CHANNEL_STATS)}"
            )
    for tag, value in profile.scalars(stats, prefix).items():
        writer.add_scalar(tag, value, step)
    for layer, measured in profile.items():
        elements = describe_raw(measured) if histograms and has_histogram(measured) else None
        if elements is not None:
            writer.add_histogram_raw(f"{prefix}elements/{layer}", global_step=step, **elements)
        for stat in shown:
            values = getattr(measured, stat)
            if values is not None and np.isfinite(values).any():
                tag = f"{prefix}channels/{layer}.{stat}"
                writer.add_histogram_raw(tag, global_step=step, **_bucket(values))


def _bucket(values: Any) -> dict[str, Any]:
    """Make a histogram of the finite values, as `add_histogram_raw` takes it."""
    values = values[np.isfinite(values)].astype(np.float64)
    low, high = float(values.min()), float(values.max())
    # Buckets of no width are not drawn: those of values that are alike need one.
    least = max(abs(low), abs(high)) * 1e-9 or 1.0
    edges = np.linspace(low, max(high, low + least), _BUCKETS + 1)
    counts, _ = np.histogram(values, edges)
    with np.errstate(over="ignore"):
        squares = float(np.square(values).sum())
    return {
        **{"min": low, "max": high, "num": len(values)},
        **{"sum": float(values.sum()), "sum_squares": squares},
        # TensorBoard draws a bucket from the limit before it; the first has none.
        **{"bucket_limits": edges.tolist(), "bucket_counts": [0, *counts.tolist()]},
    }
