"""Which side of the roofline a layer is on."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import fmstats
from fmstats.analysis.roofline import GPUS, Gpu, find_gpu
from fmstats.errors import FmstatsError

TOY = Gpu(bandwidth=100.0, float32=1000.0, half=4000.0, float8=8000.0)


def test_the_ridge_parts_the_two_sides() -> None:
    # 1000 FLOP/s over 100 B/s: ten FLOPs a byte are the ridge, which counts as memory.
    assert TOY.bound(99, 10, torch.float32) == "memory"
    assert TOY.bound(100, 10, torch.float32) == "memory"
    assert TOY.bound(101, 10, torch.float32) == "compute"
    assert TOY.bound(101, 10, torch.bfloat16) == "memory"
    assert TOY.bound(401, 10, torch.float16) == "compute"
    assert TOY.bound(401, 10, torch.float8_e4m3fn) == "memory"
    assert TOY.bound(0, 10, torch.float32) == "memory"
    assert TOY.bound(0, 0, torch.float32) is None


def test_names_are_read_leniently() -> None:
    assert find_gpu("H100") is find_gpu("h100 SXM5 80GB") is find_gpu("NVIDIA-H100") is GPUS["H100"]
    assert find_gpu("L40S") is GPUS["L40S"]
    assert find_gpu("rtx4090") is GPUS["RTX 4090"]
    assert find_gpu("A100-SXM4-80GB") is GPUS["A100"]
    with pytest.raises(FmstatsError, match=re.escape("gpu='H10' is not known; closest: H100")):
        find_gpu("H10")
    for other in ("H1000", "RTX A1000", "T400", "B2000"):
        with pytest.raises(FmstatsError, match="is not known"):
            find_gpu(other)


@pytest.mark.parametrize("name", GPUS)
def test_the_table_is_sensible(name: str) -> None:
    gpu = GPUS[name]
    assert 1e11 < gpu.bandwidth < 1e13
    assert 1e12 < gpu.float32 < gpu.half
    assert gpu.float8 is None or 1.5 < gpu.float8 / gpu.half < 2.5


def test_rows_tell_their_side() -> None:
    net = nn.Sequential(nn.Linear(4096, 4096), nn.ReLU(), nn.Flatten())
    few = fmstats.analyze(net, input_size=(1, 4096), gpu="H100")
    assert [row.bound for row in few.rows] == ["memory", "memory", None]
    many = fmstats.analyze(net, input_size=(4096, 4096), gpu="H100")
    assert [row.bound for row in many.rows] == ["compute", "memory", None]
    # In half precision the ridge is at 295 FLOPs a byte, not at 20.
    half = fmstats.analyze(net.half(), input_size=(256, 4096), gpu="H100")
    assert (half.rows[0].bound, half.rows[0].intensity) == (
        "memory",
        pytest.approx(227.5, rel=1e-2),
    )
    assert [row.bound for row in fmstats.analyze(net, input_size=(1, 4096)).rows] == [None] * 3


def test_intensity_is_flops_over_traffic() -> None:
    row = fmstats.analyze(nn.Linear(8, 4, bias=False), input_size=(3, 8)).rows[0]
    assert row.traffic_bytes == 4 * (24 + 32 + 12)
    assert row.intensity == row.flops / row.traffic_bytes
