"""How a tensor is cut into blocks: by arithmetic alone, so for tensors of any size."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fmstats.backends.native import load_native
from fmstats.statistic.view import view_of

native = load_native()
pytestmark = pytest.mark.skipif(native is None, reason="the native module is not built")

MULTIPROCESSORS = 132


def plan(
    shape: tuple[int, ...], dim: int = 1, dtype: torch.dtype = torch.float32, data: int = 0
) -> Any:
    """Of a contiguous tensor that needs no memory."""
    assert native is not None
    view = view_of(torch.empty(shape, dtype=dtype, device="meta"), dim)
    code = native.DTYPES.index(str(dtype).removeprefix("torch."))
    return native.CudaLaunch(
        code, data, view.channels, view.channel_stride, view.dims, MULTIPROCESSORS
    )


@pytest.mark.parametrize(
    ("shape", "dim", "dtype", "kernel"),
    [
        ((64, 64, 112, 112), 1, torch.float32, "rows"),
        ((8, 2048, 7, 7), 1, torch.float32, "ragged_warp"),
        ((8, 2048, 14, 14), 1, torch.float32, "rows_warp"),
        ((64, 512, 14, 14), 1, torch.bfloat16, "ragged"),
        ((32, 197, 768), 2, torch.float32, "columns"),
        ((64, 1000), 1, torch.float16, "columns"),
        ((64, 1001), 1, torch.float16, "columns_one"),
        ((64, 10, 2), 1, torch.float32, "strided_warp"),
        ((1, 1, 700, 900), 1, torch.float32, "rows"),
        ((2, 3, 2**28), 1, torch.float32, "rows"),
        ((2, 3, 2**28 + 4), 1, torch.float32, "strided"),  # a step in 32 bits must not overflow
    ],
)
def test_kernels(shape: tuple[int, ...], dim: int, dtype: torch.dtype, kernel: str) -> None:
    assert plan(shape, dim, dtype).kernel == kernel


def test_alignment_decides() -> None:
    assert plan((64, 64, 112, 112), data=4).kernel == "ragged"
    assert plan((64, 1000), data=8).kernel == "columns_one"


@pytest.mark.parametrize(
    ("shape", "dim"),
    [((64, 3, 224, 224), 1), ((64, 64, 112, 112), 1), ((8, 1, 512, 512), 1), ((256, 56, 64), 2)],
)
def test_few_channels_still_fill_the_gpu(shape: tuple[int, ...], dim: int) -> None:
    x, y = plan(shape, dim).grid
    assert x * y >= MULTIPROCESSORS


def test_many_channels_are_not_split() -> None:
    assert plan((16, 4096, 56, 56)).grid == (4096, 1)


def test_small_tensors_are_not_split() -> None:
    assert plan((4, 64, 7, 7)).grid == (8, 1)
    assert plan((4, 64)).grid == (1, 1)


@pytest.mark.parametrize(
    ("shape", "dim", "dtype"),
    [
        ((4097, 1, 2**20), 1, torch.float32),  # in a channel
        ((1, 2, 2**32), 1, torch.float8_e4m3fn),  # in a run
        ((3, 2**20, 2**12), 1, torch.bfloat16),  # in all
        ((2**33, 4), 1, torch.float16),  # down the columns
        ((2**36, 3), 1, torch.float8_e5m2),  # down columns that are not aligned
    ],
)
def test_beyond_2_31(shape: tuple[int, ...], dim: int, dtype: torch.dtype) -> None:
    """No size overflows, and counts of 32 bits stay below 2^31 in every block."""
    launch = plan(shape, dim, dtype)
    x, y = launch.grid
    positions = torch.Size(shape).numel() // shape[dim]
    assert 0 < x < 2**31
    assert 0 < y < 2**16
    if launch.kernel.startswith("columns"):
        assert positions / y <= 2**30
    assert 0 <= launch.parts_words * 8 < 2**30


def test_more_channels_than_blocks() -> None:
    with pytest.raises(ValueError, match="a tensor of 4294967296 channels is more than a launch"):
        plan((2, 2**32, 2**14))


def test_the_workspace_does_not_grow_with_the_tensor() -> None:
    small, large = plan((64, 256, 56, 56)), plan((64000, 256, 56, 56))
    assert large.parts_words <= 8 * MULTIPROCESSORS * 10 * 256
    assert small.parts_words <= large.parts_words
