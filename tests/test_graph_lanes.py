"""The lines that measure within Inductor's kernels, run as Python on tensors."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fmstats.graph_ops.lanes import Lanes
from fmstats.statistic.fields import MODES
from fmstats.statistic.thresholds import Thresholds

TRITON = SimpleNamespace(
    float32=torch.float32,
    float64=torch.float64,
    int64=torch.int64,
    full=lambda size, start, dtype: torch.full(size, start, dtype=dtype),
    where=torch.where,
    abs=torch.abs,
    minimum=torch.fmin,
    maximum=torch.fmax,
    sum=lambda x, dim: x.sum(dim, dtype=x.dtype),
    min=torch.amin,
    max=torch.amax,
)
THRESHOLDS = (Thresholds(), Thresholds(high=1.0), Thresholds(zero_tol=0.25, low=-0.5, high=1.0))


def run(lanes: Lanes, tiles: list[Tensor], mask: Tensor | None = None, **known: Any) -> Any:
    """What tiles of one size come to; `known`: what lanes hold before."""
    names: dict[str, Any] = {"tl": TRITON, "x": None, "mask": mask}
    for line in lanes.begin(str(list(tiles[0].shape))):
        exec(line, names)
    names.update(known)
    for x in tiles:
        names["x"] = x
        for line in lanes.add("x", "" if mask is None else "mask"):
            exec(line, names)
    return {name: eval(text, names) for name, text in lanes.end(1).items()}


@pytest.mark.parametrize("thresholds", THRESHOLDS, ids=MODES)
@pytest.mark.parametrize("masked", [False, True])
def test_every_kind_of_number(thresholds: Thresholds, masked: bool) -> None:
    numbers = [0.0, -0.0, 1e-45, 0.25, -0.25, -0.5, 0.75, 1.0, 1024.0, -1024.0]
    x = torch.tensor([[*numbers, math.nan, math.nan, math.inf, -math.inf, -math.inf, 2.0]])
    mask = torch.arange(20)[None] < 16 if masked else None
    tile = torch.cat([x, torch.tensor([[math.nan, math.inf, 0.0, -4e38]])], 1) if masked else x
    made = run(Lanes("_a", thresholds, True), [tile, tile * 0.5], mask)
    both = torch.cat([x, x * 0.5], 1).double()
    finite = both[both.isfinite()]
    tol, low, high = thresholds.compared_as(torch.float32)
    want = {
        "nan": 4,
        "pos_inf": 2,
        "neg_inf": 4,
        "zeros": int((both.abs() <= tol).sum()),
        "sat_low": int((both <= low).sum()),
        "sat_high": int((both >= high).sum()),
        "sum": finite.sum(),
        "sum_sq": finite.square().sum(),
        "min": finite.min(),
        "max": finite.max(),
    }
    assert list(made) == [name for name in want if name in made]
    assert len(made) == 8 + {"plain": 0, "upper": 1, "all": 2}[thresholds.mode]
    for name, value in made.items():
        assert value.tolist() == [want[name]], name


def test_nothing_finite() -> None:
    made = run(Lanes("_a", Thresholds(), True), [torch.tensor([[math.nan, math.inf]])])
    assert (made["min"].item(), made["max"].item()) == (math.inf, -math.inf)
    assert made["sum"].item() == made["sum_sq"].item() == 0.0


def test_counts_that_float32_does_not_have() -> None:
    many = torch.full((1, 2), 2**24, dtype=torch.int64)
    made = run(Lanes("_a", Thresholds(), False), [torch.zeros(1, 2)], _a_zeros=many)
    assert made["zeros"].tolist() == [2**25 + 2]
    assert made["nan"].dtype == torch.int64
