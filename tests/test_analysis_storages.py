"""Which dense tensors hold the memory of a tensor."""

from __future__ import annotations

import pytest
import torch
from analysis_models import recorded
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fmstats.analysis.storages import list_dense

pytestmark = pytest.mark.filterwarnings(
    "ignore:Sparse .* tensor support is in beta state",
    "ignore:Sparse invariant checks are implicitly disabled",
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
    assert not any(shown)


def test_memory_of_sparse_results_is_that_of_their_parts() -> None:
    seen = recorded(lambda x: [x.to_sparse(), x.to_sparse_csr()], torch.eye(4))
    values, indices = 2 * 4 * 4, (2 * 4 + 5 + 4) * 8
    assert seen.work["model"].made_bytes == values
    assert seen.work["model"].traffic == 2 * 64 + values + indices
