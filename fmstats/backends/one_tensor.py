"""`channel_stats` measures one tensor."""

from __future__ import annotations

from torch import Tensor

from fmstats.backends import choose_backend
from fmstats.backends.base import DTYPES, why_unmeasurable
from fmstats.errors import FmstatsError
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of


def channel_stats(
    x: Tensor, channel_dim: int = 1, *, zero_tol: float = 0.0, backend: str = "auto"
) -> ChannelStats:
    """Measure each channel of a tensor over all its other dims.

    Args:
        x: any strided float tensor, on any device. It is read once and not changed.
        channel_dim: the dim of the channels.
        zero_tol: |x| <= zero_tol counts as zero.
        backend: one of `fmstats backends`, or "auto".

    Raises:
        FmstatsError: no such dim or backend, a dtype without the statistic, a bad tolerance.

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
    x = x.resolve_neg()
    view = view_of(x, channel_dim)
    state = State.identity(view.channels, x.device)
    choose_backend(backend, x.device).accumulate(state, x, view, thresholds)
    return ChannelStats(state, thresholds)
