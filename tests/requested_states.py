"""What is measured on request: measures, and data at the edges of bins."""

from __future__ import annotations

import math

import torch
from samples import make
from torch import Tensor

from fmstats.statistic.bins import Bins
from fmstats.statistic.measures import Measures


def all_of(scope: str = "layer", resolution: int = 4) -> Measures:
    """Everything that can be asked for."""
    return Measures.of(("abs", "kurtosis", "histogram"), Bins(scope, resolution))


def bins_of(scope: str, resolution: int) -> Measures:
    """Histograms alone."""
    return Measures.of("histogram", Bins(scope, resolution))


def edges_of(dtype: torch.dtype) -> Tensor:
    """Numbers at the edges of bins and of the dtype, with their neighbours: float64."""
    ends = [Bins.SMALLEST, 2.0**-14, 1.0, 1.0625, 448.0, 57344.0, Bins.LARGEST, 65536.0]
    place = torch.tensor(ends, dtype=torch.float64)
    near = torch.cat([place, place * (1 + 2.0**-23), place * (1 - 2.0**-24)])
    f = torch.finfo(dtype)
    tiny = f.smallest_normal * torch.tensor([1, 0.5, f.eps], dtype=torch.float64)
    signed = torch.cat([near, -near, tiny, -tiny, torch.tensor([0.0, -0.0]).double()])
    numbers = signed[signed.abs() <= f.max].to(dtype).double()
    rest = [math.nan] if dtype == torch.float8_e4m3fn else [math.nan, math.inf, -math.inf]
    return torch.cat([numbers, torch.tensor(rest).double()])


def with_edges(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Normal data with NaN and infinities, a third of it at the edges of bins."""
    x = make("nan and inf", shape, dtype)
    edges = edges_of(dtype)
    chosen = edges[torch.randint(len(edges), shape)].to(dtype)
    return torch.where(torch.rand(shape) < 1 / 3, chosen, x)
