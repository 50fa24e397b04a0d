"""How tensors are cut into programs, and how few kernels all their shapes need."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from samples import LAYOUTS

from fmstats.backends.triton.plan import CHUNK, MOST_DIMS, Launch, Layout, pieces_of, plan
from fmstats.statistic.view import View, view_of

ALIGNED, ODD = 1 << 12, (1 << 12) + 2


def planned(*shape: int, dtype: torch.dtype = torch.float32, address: int = ALIGNED) -> Launch:
    x = torch.empty(shape, dtype=dtype, device="meta")
    return plan(view_of(x, 1), address, dtype.itemsize, shape[1])


def test_full_vectors_where_all_is_aligned() -> None:
    for dtype, full in ((torch.float32, 4), (torch.bfloat16, 8), (torch.float8_e5m2, 16)):
        assert planned(8, 16, 32, 32, dtype=dtype).layout.vector == full
        assert planned(4096, 64, dtype=dtype).layout.vector == full


def test_as_much_of_a_vector_as_divides() -> None:
    assert planned(8, 16, 14, 14, dtype=torch.float16).layout.vector == 4
    assert planned(8, 16, 7, 7, dtype=torch.float16).layout.vector == 1
    assert planned(8, 16, 32, 32, dtype=torch.float16, address=ODD).layout.vector == 1
    assert planned(4096, 66, dtype=torch.float16).layout.vector == 2


def test_which_kernel() -> None:
    assert planned(2, 3, 8, 8).layout.kernel == "rows"
    assert planned(64, 8).layout.kernel == "columns"
    x = torch.empty(2, 3, 8, 8, device="meta")
    assert plan(view_of(x[..., ::2], 1), ALIGNED, 4, 3).layout.kernel == "strided"


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (2, 3, 5), (64, 2, 3000), (3, 5, 100_000), (70, 4096)]
)
def test_stretches_cover_every_slot_and_are_a_chunk_at_most(shape: tuple[int, ...]) -> None:
    launch = planned(*shape)
    _, _, _, _, slots, per_stretch, pieces, *_ = launch.measure
    stretches = launch.programs // pieces
    assert (stretches - 1) * per_stretch < slots <= stretches * per_stretch
    assert per_stretch <= CHUNK * launch.layout.lanes
    assert per_stretch % launch.layout.lanes == 0
    assert launch.parts[0] == stretches * 11


def test_steps_are_64_bits_wide_where_they_must_be() -> None:
    near = View(4, 1 << 20, ((8, 1 << 22), (1 << 20, 1)))
    far = View(4, 1 << 33, ((8, 1 << 35), (1 << 33, 1)))
    assert plan(near, ALIGNED, 4, 4).layout == Layout("rows", 4, 4, 2, True)
    assert plan(far, ALIGNED, 4, 4).layout == Layout("rows", 4, 4, 3, False)


def test_more_dims_than_a_launch_walks_over() -> None:
    dims = tuple((2, 3**k) for k in range(7, 0, -1))
    pieces = pieces_of(View(1, 1, dims))
    assert len(pieces) == 2 ** (len(dims) - MOST_DIMS)
    found = sorted(
        begin + sum(i * stride for i, (_, stride) in zip(at, piece.dims, strict=True))
        for begin, piece in pieces
        for at in itertools.product(*(range(size) for size, _ in piece.dims))
    )
    every = itertools.product(*((0, stride) for _, stride in dims))
    assert found == sorted(map(sum, every))


def test_shapes_do_not_compile() -> None:
    """As many kernels as there are kinds of layout, however many shapes there are."""
    layouts: dict[str, set[Layout]] = {name: set() for name in ("rows", "columns", "strided")}
    shapes = itertools.product((1, 2, 16, 17), (1, 3, 16, 48, 768), (1, 7, 14, 56), (1, 9, 64))
    count = 0
    for shape, arrange in itertools.product(shapes, LAYOUTS.values()):
        x, dim = arrange(torch.empty(shape, dtype=torch.float16))
        if x.numel():
            layout = plan(view_of(x, dim), x.data_ptr(), 2, x.shape[dim]).layout
            layouts[layout.kernel].add(layout)
            count += 1
    assert count > 1000
    vectors = int(math.log2(16 / 2)) + 1
    widths = int(math.log2(64 / 2)) + 1
    assert len(layouts["rows"]) <= 2 * vectors
    assert len(layouts["columns"]) <= 2 * vectors * widths
    assert len(layouts["strided"]) <= MOST_DIMS
