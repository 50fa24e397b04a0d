"""Profiles for the tests of rules, made from tensors or from states, without a model."""

from __future__ import annotations

import torch
from torch import Tensor

from fmstats.backends.reference import ReferenceBackend
from fmstats.profiles.profile import LayerProfile, Profile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.measures import ALWAYS, Measures
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of


def layer_of(
    x: Tensor,
    type: str = "ReLU",
    low: float | None = None,
    high: float | None = None,
    dtype: str = "float32",
    measures: Measures = ALWAYS,
) -> LayerProfile:
    """A layer that was called once and gave `x`, with channels in dim 1."""
    thresholds = Thresholds(0.0, low, high)
    state = State.identity(x.shape[1], measures=measures)
    ReferenceBackend().accumulate(state, x, view_of(x, 1), thresholds)
    stats = ChannelStats(state, thresholds)
    return LayerProfile(type, 1, tuple(x.shape), dtype, 1, "reference", stats)


def profile_of(*layers: LayerProfile, **metadata: object) -> Profile:
    """Layers named a, b, c, ... in the order of execution."""
    return Profile({chr(97 + i): layer for i, layer in enumerate(layers)}, metadata)


def healthy(n: int = 1000, channels: int = 4) -> Tensor:
    """Nothing to find in this: both signs, one scale."""
    return torch.randn(n, channels)


def scaled(rms: float, type: str = "Linear") -> LayerProfile:
    """A layer whose rms is exactly this."""
    x = torch.ones(400, 2, dtype=torch.float64) * rms
    x[::2] *= -1
    return layer_of(x, type)


def unseen(channels: int = 2, type: str = "ReLU") -> LayerProfile:
    """A layer that saw nothing."""
    stats = ChannelStats(State.identity(channels))
    return LayerProfile(type, 1, (0, channels), "float32", 0, "reference", stats)
