"""The CUDA kernels read every byte once: the interpreter counts what their PTX loads and stores."""

from __future__ import annotations

import math

import cuda_host
import pytest
import torch
from csrc_constants import SAMPLES
from cuda_host import ALL, Launch, StubDriver, host_backend, kernel_of
from torch import Tensor

from fmstats.backends.cuda import nvrtc
from fmstats.statistic.fields import COUNTS, FIRSTS, MOMENTS, PART_FIELDS
from fmstats.statistic.state import State
from fmstats.statistic.view import view_of

pytestmark = cuda_host.needs_nvrtc

SECTOR = 32  # bytes: what memory is read in
PART = 8 * len(PART_FIELDS)  # bytes of a part of a channel

# Aligned tensors, large beside the samples that the first one's pivots are chosen from.
ALIGNED = {
    "rows": lambda t: torch.randn(4, 3, 64, 256).to(t),
    "rows_warp": lambda t: torch.randn(4, 24, 16, 16).to(t),
    "columns": lambda t: torch.randn(16384, 64).to(t),
}
OTHERS = {
    "ragged": lambda t: torch.randn(7, 3, 67, 89).to(t),
    "ragged_warp": lambda t: torch.randn(5, 9, 7, 7).to(t),
    "strided": lambda t: torch.randn(4, 3, 31, 2 * 47).to(t)[..., ::2],
    "strided_warp": lambda t: torch.randn(4, 5, 9, 22).to(t)[..., ::2],
    "columns_one": lambda t: torch.randn(2999, 7).to(t),
}
DTYPES = (torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float64)


def launches(stub: StubDriver, x: Tensor) -> list[Launch]:
    """Of two tensors into one state, the second with a running mean to start from."""
    stub.count_bytes = True
    view = view_of(x, 1)
    meter = host_backend(multiprocessors=2).meter(State.identity(view.channels), ALL)
    for _ in range(2):
        meter.update(x, view)
    return stub.launches


@pytest.mark.parametrize("kernel", ALIGNED)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
def test_an_aligned_tensor_is_read_in_whole_sectors(
    stub: StubDriver, dtype: torch.dtype, kernel: str
) -> None:
    x = ALIGNED[kernel](dtype)
    assert kernel_of(host_backend(), x) == kernel
    first, second = launches(stub, x)
    sectors = x.numel() * x.itemsize / SECTOR
    # Each block reads some positions for its pivots, a sector for each channel or row of a tile.
    across = x.shape[1] if kernel != "columns" else x.shape[1] * x.itemsize // SECTOR
    samples = SAMPLES * first.args.splits * max(1, across)
    assert (second.report.load_counts("x") == 1).all()
    assert second.report.loads["x"].sectors == sectors
    assert sectors < first.report.loads["x"].sectors <= sectors + samples


@pytest.mark.parametrize("kernel", OTHERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
def test_every_byte_of_any_tensor_is_read_once(
    stub: StubDriver, dtype: torch.dtype, kernel: str
) -> None:
    x = OTHERS[kernel](dtype)
    assert kernel_of(host_backend(), x) == kernel
    _, second = launches(stub, x)
    counts = second.report.load_counts("x")
    assert counts.max() == 1
    assert counts.sum() == x.numel() * x.itemsize


@pytest.mark.parametrize("kernel", [*ALIGNED, *OTHERS])
def test_stores_are_of_parts_and_state_alone(stub: StubDriver, kernel: str) -> None:
    x = (ALIGNED | OTHERS)[kernel](torch.float32)
    channels = x.shape[1]
    for launch in launches(stub, x):
        stores, args = launch.report.stores, launch.args
        assert stores["state"].bytes == len((*COUNTS, *MOMENTS)) * 8 * channels
        parts = args.splits + (args.groups if args.groups > 1 else 0)
        written = stores["parts"].bytes if "parts" in stores else 0
        assert written <= PART * channels * parts
        assert set(stores) <= {"state", "parts"}  # tickets are counted up, and nothing is cleared
        assert set(launch.report.atomics) <= {"tickets"}


@pytest.mark.parametrize("kernel", [*ALIGNED, *OTHERS])
def test_the_clock_is_for_what_is_not_finite(stub: StubDriver, kernel: str) -> None:
    """Its words and those of a state are touched where an element is NaN, and nowhere else."""
    x = (ALIGNED | OTHERS)[kernel](torch.float32)
    for launch in launches(stub, x):
        assert "clock" not in launch.report.loads
    x[(0, 1) + (0,) * (x.dim() - 2)] = math.nan
    stub.reset()
    for launch in launches(stub, x):
        assert launch.report.loads["clock"].bytes == 8 * len(FIRSTS)
        assert launch.report.atomics["clock"].bytes == 8


def test_the_kernels_here_are_all_there_are() -> None:
    assert {*ALIGNED, *OTHERS} == set(nvrtc.KERNELS)
