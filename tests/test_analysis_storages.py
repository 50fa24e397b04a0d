"""Which dense tensors hold the memory of a tensor."""

from __future__ import annotations

import pytest
import torch
from analysis_models import recorded
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fmstats.analysis.storages import is_nested, list_dense, shape_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:Sparse .* tensor support is in beta state",
    "ignore:Sparse invariant checks are implicitly disabled",
    "ignore:The PyTorch API of nested tensors is in prototype stage",
)

MAKE = {
    "dense": lambda x: x,
    "COO": Tensor.to_sparse,
    "CSR": Tensor.to_sparse_csr,
    "CSC": Tensor.to_sparse_csc,
    "BSR": lambda x: x.to_sparse_bsr((2, 2)),
    "BSC": lambda x: x.to_sparse_bsc((2, 2)),
}


@pytest.mark.parametrize("layout", MAKE)
def test_all_numbers_of_it(layout: str) -> None:
    x = MAKE[layout](torch.eye(4))
    *indices, values = list_dense(x)
    assert float(values.sum()) == 4
    assert len(indices) == {"dense": 0, "COO": 1}.get(layout, 2)
    if layout != "dense":
        make = torch.sparse_coo_tensor if layout == "COO" else torch.sparse_compressed_tensor
        options = {} if layout == "COO" else {"layout": x.layout}
        assert make(*indices, values, x.shape, **options).to_dense().equal(torch.eye(4))


def test_what_shows_none() -> None:
    shown = []
    torch.vmap(lambda x: shown.append(list_dense(x)) or x)(torch.eye(3))
    torch.func.grad(lambda x: shown.append(list_dense(x)) or x.sum())(torch.ones(3))
    with FakeTensorMode():
        shown.append(list_dense(torch.eye(3).to_sparse()))
    if torch.backends.mkldnn.is_available():
        shown.append(list_dense(torch.eye(3).to_mkldnn()))
    assert len(shown) >= 3
    assert all(dense == [] for dense in shown)


def test_memory_of_sparse_results_is_that_of_their_parts() -> None:
    seen = recorded(lambda x: [x.to_sparse(), x.to_sparse_csr()], torch.eye(4))
    values, indices = 2 * 4 * 4, (2 * 4 + 5 + 4) * 8
    assert seen.work["model"].made_bytes == values
    assert seen.work["model"].traffic == 2 * 64 + values + indices


def test_shapes() -> None:
    rows = [torch.ones(2, 4), torch.ones(3, 4)]
    listed = torch.nested.nested_tensor(rows)
    ragged = torch.nested.nested_tensor(rows, layout=torch.jagged)
    shapes = [shape_of(x) for x in (torch.ones(2, 3), torch.eye(3).to_sparse(), ragged, listed)]
    assert shapes == [(2, 3), (3, 3), (2, -1, 4), None]
    assert [is_nested(x) for x in (rows[0], ragged, listed)] == [False, False, True]
    assert [x.numel() for x in list_dense(listed)] == [20]
