"""These formulas make of the fields of two states those of all their data.

The C++ twins are csrc/state.h and csrc/requested.h.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.statistic.fields import COUNTS, EXTREMES, FIRSTS, MINIMA, SUMS
from fmstats.statistic.float_order import at_places, places
from fmstats.statistic.measures import Measures

# By which power of a factor fields grow, where all elements are multiplied by it.
GROWTH = {"mean": 1, "min": 1, "max": 1, "m2": 2, "sum_abs": 1, "m3": 3, "m4": 4}


class Fields(Protocol):
    """What a state has."""

    @property
    def channels(self) -> int:
        """Return the number of channels."""

    @property
    def measures(self) -> Measures:
        """Return what it holds beside what is always measured."""

    @property
    def finite(self) -> Tensor:
        """Count the elements that are neither NaN nor infinite, int64 (channels,)."""

    def __getitem__(self, field: str) -> Tensor:
        """Return the row of a field."""


def merge_fields(a: Fields, b: Fields) -> dict[str, Tensor]:
    """Merge two states into a tensor for each of their fields, to be put anywhere.

    Raises:
        FmstatsError: the numbers of channels or the measures differ.
    """
    if a.channels != b.channels:
        raise FmstatsError(f"cannot merge a state of {a.channels} channels with {b.channels}")
    if a.measures != b.measures:
        raise FmstatsError(
            f"cannot merge a state that measures {a.measures} with one of {b.measures}"
        )
    na, nb = a.finite.to(torch.float64), b.finite.to(torch.float64)
    share = nb / (na + nb).clamp(min=1)
    delta = b["mean"] - a["mean"]
    # A distance beyond float64 is gone in halves.
    half = (0.5 * b["mean"] - 0.5 * a["mean"]) * share
    mean = torch.where(delta.isinf(), a["mean"] + half + half, a["mean"] + delta * share)
    # In this order nothing overflows or underflows that the product does not.
    joined = {"mean": mean, "m2": a["m2"] + b["m2"] + delta * (na * share) * delta}
    fields = {f: a[f] + b[f] for f in (*COUNTS, *SUMS)}
    if "abs" in a.measures.sums:
        fields["sum_abs"] = a["sum_abs"] + b["sum_abs"]
    if "kurtosis" in a.measures.sums:
        joined |= _merge_central_moments(a, b, na, nb)
    # With nothing finite on one side the formulas hold, unless delta overflows: then 0 * inf.
    only_a, only_b = nb == 0, na == 0
    for field, both in joined.items():
        fields[field] = torch.where(only_a, a[field], torch.where(only_b, b[field], both))
    for field in EXTREMES:
        join = torch.minimum if field in MINIMA else torch.maximum
        fields[field] = at_places(join(places(a[field]), places(b[field])))
    return fields | {f: torch.minimum(a[f], b[f]) for f in FIRSTS}


def _merge_central_moments(a: Fields, b: Fields, na: Tensor, nb: Tensor) -> dict[str, Tensor]:
    """Merge the sums of third and fourth powers of deviations from the mean (Pebay 2008)."""
    n = (na + nb).clamp(min=1)
    p, q = na / n, nb / n  # the shares of both, which no product of counts overflows
    delta = b["mean"] - a["mean"]
    m3 = a["m3"] + b["m3"]
    m3 = m3 + delta * (3 * (p * b["m2"] - q * a["m2"]))
    m3 = m3 + delta * (delta * (na * q * (p - q)) * delta)
    m4 = a["m4"] + b["m4"]
    m4 = m4 + delta * (4 * (p * b["m3"] - q * a["m3"]))
    m4 = m4 + delta * (6 * (p * p * b["m2"] + q * q * a["m2"])) * delta
    m4 = m4 + delta * (delta * (na * q * (p * p - p * q + q * q)) * delta) * delta
    return {"m3": m3, "m4": m4}
