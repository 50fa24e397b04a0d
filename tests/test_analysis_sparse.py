"""Products of sparse matrices: as many multiplications as pairs of stored numbers that meet."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from analysis_models import flops_of
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from fmstats.analysis.sparse import count_pairs, count_stored

pytestmark = pytest.mark.filterwarnings(
    "ignore:Sparse .* tensor support is in beta state",
    "ignore:Sparse invariant checks are implicitly disabled",
    "ignore:The PyTorch API of SparseSemiStructuredTensor is in prototype stage",
)

LAYOUTS = {
    "dense": lambda x: x,
    "COO": Tensor.to_sparse,
    "CSR": Tensor.to_sparse_csr,
    "CSC": Tensor.to_sparse_csc,
    "BSR": lambda x: x.to_sparse_bsr((2, 2)),
    "BSC": lambda x: x.to_sparse_bsc((2, 2)),
}


def random(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(rows, columns, generator=generator)
    return values * (torch.rand(rows, columns, generator=generator) < 0.2)


def stored(x: Tensor) -> Tensor:
    """One where a number is stored, zero elsewhere."""
    if x.layout == torch.strided:
        return torch.ones_like(x)
    if x.layout == torch.sparse_coo:
        return torch.sparse_coo_tensor(
            x._indices(), torch.ones_like(x._values()), x.shape
        ).to_dense()
    copy = x.clone()
    copy.values().fill_(1)
    return copy.to_dense()


@pytest.mark.parametrize(("left", "right"), list(itertools.product(LAYOUTS, repeat=2)))
def test_pairs_that_meet(left: str, right: str) -> None:
    for seed in range(5):
        a = LAYOUTS[left](random(8, 6, seed))
        b = LAYOUTS[right](random(6, 10, seed + 100))
        assert count_pairs(a, b) == (stored(a) @ stored(b)).sum()


def test_the_pattern_is_what_is_stored() -> None:
    """The reference above: zeros in blocks are stored."""
    x = torch.zeros(4, 4)
    x[0, 0] = 1
    assert stored(LAYOUTS["BSR"](x)).sum() == 4
    assert count_stored(LAYOUTS["BSR"](x)) == 4
    assert count_stored(x) is None


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "dense"])
def test_vectors_and_batches(layout: str) -> None:
    a = LAYOUTS[layout](random(8, 6, 0))
    n = count_stored(a)
    assert n is not None
    assert count_pairs(a, torch.ones(6)) == n
    assert count_pairs(torch.ones(8), a) == n
    assert count_pairs(torch.ones(3, 5, 8), a) == 5 * n  # what is stored meets a column of each


def test_stored_zeros_and_duplicates_are_multiplied() -> None:
    indices = torch.tensor([[0, 0, 1], [1, 1, 2]])
    x = torch.sparse_coo_tensor(indices, torch.tensor([1.0, 2.0, 0.0]), (3, 3))
    assert count_pairs(x, torch.ones(3, 5)) == 15
    assert count_pairs(x, x) == 2  # the two in column 1 and the one of row 1


A = torch.zeros(20, 20)
A[0, :4], A[3, 5] = 1, 1
X, V = torch.ones(20, 8), torch.ones(20)
# Ways to write a product of a sparse (20, 20) and a dense (20, 8): multiplications a stored number.
WAYS = {
    "@": (lambda a: a @ X, 8, "COO CSR CSC BSR"),
    "@ a vector": (lambda a: torch.mv(a, V), 1, "COO CSR CSC BSR"),
    "from the right": (lambda a: X.T @ a, 8, "COO CSR CSC"),
    "linear": (lambda a: F.linear(X.T, a), 8, "COO CSR CSC BSR"),
    "linear with bias": (lambda a: F.linear(X.T, a, V), 8, "CSR BSR"),
    "addmm": (lambda a: torch.addmm(X, a, X), 8, "COO CSR CSC BSR"),
    "in place": (lambda a: X.clone().addmm_(a, X), 8, "COO CSR"),
    "sparse.mm": (lambda a: torch.sparse.mm(a, X), 8, "COO CSR CSC BSR"),
    "sparse.addmm": (lambda a: torch.sparse.addmm(X, a, X), 8, "COO CSR CSC BSR"),
    "reduce": (lambda a: torch.sparse.mm(a, X, "sum"), 8, "CSR"),
    "sampled": (lambda a: torch.sparse.sampled_addmm(a, X, X.T), 8, "CSR"),
    "hspmm": (lambda a: torch.hspmm(a, X), 8, "COO"),
    "smm": (lambda a: torch.smm(a, X), 8, "COO"),
    "sspaddmm": (lambda a: torch.sspaddmm(a, a, torch.ones(20, 20)), 20, "COO"),
    "batch": (lambda a: torch.bmm(torch.stack([a, a]), torch.stack([X, X])), 2 * 8, "COO"),
    "hybrid": (lambda a: (a @ X) * 2, 8, "COO"),
}


@pytest.mark.parametrize(
    ("way", "layout"), [(way, layout) for way in WAYS for layout in WAYS[way][2].split()]
)
def test_however_it_is_written(way: str, layout: str) -> None:
    function, each, _ = WAYS[way]
    matrix = LAYOUTS[layout](A)
    n = count_stored(matrix)
    assert (
        n == (20 if layout == "BSR" else 5) - (4 if layout == "BSR" and n == 12 else 0) or n == 12
    )
    assert flops_of(function, matrix) == 2 * each * n


@pytest.mark.parametrize("layout", ["COO", "CSR"])
def test_sparse_by_sparse(layout: str) -> None:
    matrix = LAYOUTS[layout](A)
    # Of the five in columns 0 to 3 and 5, those of columns 0 (row 0: four) and 3 (row 3: one).
    assert flops_of(lambda a: a @ a, matrix) == 2 * 5
    assert flops_of(torch.sparse.mm, matrix, matrix) == 2 * 5


def test_semi_structured() -> None:
    """Two of each four numbers are stored, for kernels of NVIDIA's: shapes alone."""
    aten, meta = torch.ops.aten, torch.device("meta")
    half = torch.empty(64, 32, device=meta, dtype=torch.float16)  # of (64, 64)
    notes = torch.empty(64, 4, device=meta, dtype=torch.int16)
    x = torch.empty(64, 8, device=meta, dtype=torch.float16)
    assert flops_of(aten._sparse_semi_structured_mm, half, notes, x) == 2 * 64 * 32 * 8
    c = torch.empty(64, device=meta, dtype=torch.float16)
    assert flops_of(aten._sparse_semi_structured_addmm, c, half, notes, x) == 2 * 64 * 32 * 8
    rows = torch.empty(8, 64, device=meta, dtype=torch.float16)
    assert flops_of(aten._sparse_semi_structured_linear, rows, half, notes) == 2 * 64 * 32 * 8


def test_semi_structured_tensors() -> None:
    half, notes = torch.zeros(64, 32), torch.zeros(64, 4, dtype=torch.int16)
    kind = torch.sparse.SparseSemiStructuredTensorCUTLASS
    x = kind(torch.Size((64, 64)), half, notes, None, None, None)
    assert count_stored(x) == 64 * 32
    assert count_pairs(x, torch.ones(64, 8)) == 64 * 32 * 8


def test_wide_by_tall() -> None:
    a, b = random(3, 10, 0).to_sparse(), random(10, 2, 1).to_sparse_csr()
    assert count_pairs(a, b) == (stored(a) @ stored(b)).sum()


def test_of_a_fake_tensor_it_depends_on_values() -> None:
    with FakeTensorMode():
        x = torch.ones(4, 4).to_sparse()
    with pytest.raises(DataDependentOutputException):
        count_pairs(x, torch.ones(4, 4))
