"""Tell changes of a model from what rounding does to the same model on the same inputs.

Another batch size, another memory format, another library or another dtype adds up the same
numbers in another order or rounds them elsewhere. The error of a number is about the machine
epsilon of the dtype times the size of the numbers that it was computed from, for which the RMS of
the layer stands. In units of that, such runs of one model differed at most by 4.7 (root mean square
over the channels of a layer) and by 38 (a single channel): see docs/drift.md. So a layer changed if
it differs by more than `USUAL`, or if one of its channels differs by more than `MOST`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from fmstats.profiles.profile import Profile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.distribution import Array

USUAL, MOST = 8.0, 64.0
# Rounding carries so many elements of a channel across zero, or across the edge of a bin, now and
# then: in a channel of few elements that is more than any machine epsilon.
FLIPS = 2
_EXACT = 2.0**-52  # of the statistics, and of integers


def list_epsilons(now: Profile, baseline: Profile, layers: Iterable[str]) -> dict[str, float]:
    """Return the machine epsilon that counts in each layer, by name.

    It is that of the coarsest dtype on either side, of the layer or of those that ran before it: a
    float32 layer after a bfloat16 layer computes with numbers that were rounded to bfloat16.

    Args:
        now: the profile in question.
        baseline: what it is compared with.
        layers: that both have, in the order of execution.
    """
    found, coarsest = {}, _EXACT
    for name in layers:
        dtypes = {d for profile in (now, baseline) for d in profile.info[name].dtype.split(", ")}
        coarsest = max(coarsest, *map(_epsilon_of, dtypes))
        found[name] = coarsest
    return found


def name_coarsest(now: Profile, baseline: Profile, layers: Iterable[str]) -> str:
    """Name the dtype whose machine epsilon counts in the last of the layers."""
    rows = [profile.info[name] for name in layers for profile in (now, baseline)]
    return max((d for row in rows for d in row.dtype.split(", ")), key=_epsilon_of)


def _epsilon_of(dtype: str) -> float:
    known = getattr(torch, dtype, None)
    if not isinstance(known, torch.dtype) or not (known.is_floating_point or known.is_complex):
        return _EXACT
    return float(torch.finfo(known).eps)


def size_of_rounding(stats: ChannelStats, epsilon: float) -> Array:
    """Return the unit of errors by rounding in each channel of a layer."""
    squares = np.square(stats.rms)
    known = squares[np.isfinite(squares)]
    layer = float(np.sqrt(known.mean())) if known.size else 0.0
    return np.asarray(epsilon * np.fmax(stats.rms, layer))


def find_beyond(errors: Array) -> Array:
    """Return which channels of a layer differ by more than rounding explains (bool).

    Args:
        errors: sizes of changes, in units of rounding; NaN where there is nothing to compare.
    """
    known = errors[~np.isnan(errors)]
    with np.errstate(over="ignore"):
        level = float(np.sqrt(np.mean(np.square(known)))) if known.size else 0.0
    if level <= USUAL and (known <= MOST).all():
        return np.zeros(errors.shape, dtype=bool)
    return np.asarray(np.nan_to_num(errors, nan=0.0) > USUAL)
