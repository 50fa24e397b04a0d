"""The lines that measure within Inductor's kernels, run as Python on tensors."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fmstats.graph_ops import lanes, lowering
from fmstats.graph_ops.lanes import Lanes
from fmstats.statistic.fields import MODES
from fmstats.statistic.packing import Packing
from fmstats.statistic.thresholds import Thresholds

TRITON = SimpleNamespace(
    float32=torch.float32,
    float64=torch.float64,
    full=lambda size, start, dtype: torch.full(size, start, dtype=dtype),
    where=torch.where,
    abs=torch.abs,
    fma=lambda x, y, z: x * y + z,
    minimum=torch.fmin,
    maximum=torch.fmax,
    sum=lambda x, dim: x.sum(dim, dtype=x.dtype),
    min=torch.amin,
    max=torch.amax,
)
THRESHOLDS = (Thresholds(), Thresholds(high=1.0), Thresholds(zero_tol=0.25, low=-0.5, high=1.0))


def run(lanes: Lanes, tiles: list[Tensor], mask: Tensor | None = None) -> Any:
    """What tiles of one size come to."""
    names: dict[str, Any] = {"tl": TRITON, "x": None, "mask": mask}
    for line in lanes.begin(str(list(tiles[0].shape))):
        exec(line, names)
    for x in tiles:
        names["x"] = x
        for line in lanes.add("x", "" if mask is None else "mask"):
            exec(line, names)
    return {name: eval(text, names) for name, text in lanes.end(1).items()}


@pytest.mark.parametrize("thresholds", THRESHOLDS, ids=MODES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("positions", [32, 3000, 2**20])  # 4, 2 and 1 count in a number
def test_every_kind_of_number(thresholds: Thresholds, masked: bool, positions: int) -> None:
    packing = Packing.of(positions)
    numbers = [0.0, -0.0, 1e-45, 0.25, -0.25, -0.5, 0.75, 1.0, 1024.0, -1024.0]
    x = torch.tensor([[*numbers, math.nan, math.nan, math.inf, -math.inf, -math.inf, 2.0]])
    mask = torch.arange(20)[None] < 16 if masked else None
    tile = torch.cat([x, torch.tensor([[math.nan, math.inf, 0.0, -4e38]])], 1) if masked else x
    made = run(Lanes("_a", thresholds, packing), [tile, tile * 0.5], mask)
    both = torch.cat([x, x * 0.5], 1).double()
    finite = both[both.isfinite()]
    tol, low, high = thresholds.compared_as(torch.float32)
    counts = {
        "nan": 4,
        "pos_inf": 2,
        "neg_inf": 4,
        "zeros": int((both.abs() <= tol).sum()),
        "sat_low": int((both <= low).sum()),
        "sat_high": int((both >= high).sum()),
    }
    want = {
        "+".join(names): packing.pack([torch.tensor([counts[name]]) for name in names])
        for names in packing.groups(thresholds.mode)
    }
    want |= {"sum": finite.sum(), "sum_sq": finite.square().sum()}
    want |= {"min": finite.min(), "max": finite.max()}
    assert list(made) == list(want)
    for name, value in made.items():
        assert value.tolist() == want[name].view(1).tolist(), name


def test_nothing_finite() -> None:
    made = run(Lanes("_a", Thresholds(), Packing.of(2)), [torch.tensor([[math.nan, math.inf]])])
    assert (made["min"].item(), made["max"].item()) == (math.inf, -math.inf)
    assert made["sum"].item() == made["sum_sq"].item() == 0.0


def test_a_field_without_lines_is_left_to_the_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the code of a kernel would be found to be incomplete when it is too late."""
    assert lanes.why_not() is None
    monkeypatch.setattr(lanes, "count_names", lambda mode: ("nan", "zeros", "above_one"))
    monkeypatch.setattr("torch.__version__", "2.13.0")
    assert lowering.why_not_here() == "kernels of Inductor do not measure above_one"
