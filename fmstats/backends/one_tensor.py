"""`channel_stats` measures one tensor."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from fmstats.backends import choose_backend
from fmstats.backends.base import DTYPES, why_unmeasurable
from fmstats.errors import FmstatsError
from fmstats.statistic.bins import Bins
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.measures import Measures
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of


def channel_stats(
    x: Tensor,
    channel_dim: int = 1,
    *,
    zero_tol: float = 0.0,
    backend: str = "auto",
    measure: str | Collection[str] | None = None,
    histogram: str = "layer",
    resolution: int = 4,
) -> ChannelStats:
    """Measure each channel of a tensor over all its other dims.

    Args:
        x: any strided float tensor, on any device. It is read once and not changed.
        channel_dim: the dim of the channels.
        zero_tol: |x| <= zero_tol counts as zero.
        backend: one of `fmstats backends`, or "auto".
        measure: what to measure as well, one or several of "abs", "kurtosis" and "histogram".
        histogram: keep one of the whole tensor, "layer", or one of each "channel".
        resolution: 0 to 6: each octave of a histogram has `2**resolution` bins.

    Raises:
        FmstatsError: no such dim, backend or measure, a dtype without the statistic, a bad
            tolerance.

    Examples:
        >>> import torch
        >>> stats = fmstats.channel_stats(torch.tensor([[0.0, 1.0], [4.0, 1.0]]))
        >>> print(stats.mean, stats.sparsity)
        [2. 1.] [0.5 0. ]
    """
    if not isinstance(x, Tensor):
        raise FmstatsError(f"channel_stats() takes a torch.Tensor, got {type(x).__name__}")
    why = why_unmeasurable(x)
    if why is not None:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise FmstatsError(
            f"cannot measure a tensor that {why}: the statistic is of strided tensors of {names}"
        )
    thresholds = Thresholds(zero_tol)
    measures = Measures.of(measure or (), Bins(histogram, resolution))
    x = x.resolve_neg()
    view = view_of(x, channel_dim)
    state = State.identity(view.channels, x.device, measures)
    choose_backend(backend, x.device).accumulate(state, x, view, thresholds)
    return ChannelStats(state, thresholds)
