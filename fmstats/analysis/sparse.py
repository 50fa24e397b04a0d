"""Count products of sparse matrices, in which only stored numbers are multiplied."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor
from torch.sparse import SparseSemiStructuredTensor
from torch.utils._python_dispatch import _disable_current_modes

from fmstats.analysis.storages import SPARSE, list_dense


def count_pairs(a: Any, b: Any) -> int:
    """Count the multiplications of (..., m, k) and (..., k, n); either may be a vector.

    An element of a sparse factor that is stored meets a whole row, or column, of a dense one; of
    another sparse one what is stored there. Of duplicates in uncoalesced tensors each counts.
    """
    sparse = [count_stored(x) for x in (a, b)]
    if sparse[0] is not None and sparse[1] is not None and a.dim() == b.dim() == 2:
        with _disable_current_modes():  # Real ones are counted under a fake mode, too.
            return _count_meetings(a, b)
    if sparse[1] is not None:
        return sparse[1] * (int(a.shape[-2]) if a.dim() > 1 else 1)
    stored = int(a.numel()) if sparse[0] is None else sparse[0]
    return stored * (int(b.shape[-1]) if b.dim() > 1 else 1)


def count_stored(x: Tensor) -> int | None:
    """Count the numbers that a sparse tensor stores, in whole blocks; None of a dense one.

    Raises:
        DataDependentOutputException: a fake tensor, made sparse in the forward pass.
    """
    if isinstance(x, SparseSemiStructuredTensor):  # two of each four
        return int(x.numel()) // 2
    if x.layout not in SPARSE:
        return None
    if isinstance(x, FakeTensor):
        raise DataDependentOutputException(torch.ops.aten._nnz.default)
    return int(list_dense(x)[-1].numel())


def _count_meetings(a: Tensor, b: Tensor) -> int:
    """Count pairs of stored elements, one of column k of `a` and one of row k of `b`."""
    columns, rows = _places(a)[1], _places(b)[0]
    inner = int(a.shape[-1])
    return int((columns.bincount(minlength=inner) * rows.bincount(minlength=inner)).sum())


def _places(x: Tensor) -> Tensor:
    """Return the row and the column of each stored number, as (2, stored)."""
    if x.layout != torch.sparse_coo:
        first, second, values = list_dense(x)
        # Ones, as zeros that are stored may be dropped.
        ones = torch.ones_like(values, dtype=torch.float32)
        make = torch.sparse_compressed_tensor
        x = make(first, second, ones, x.shape, layout=x.layout, check_invariants=False).to_sparse()
    return x._indices()
