"""Which dense tensors hold the memory of a tensor: itself, or the parts of a sparse one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses.fake_tensor import FakeTensor

SPARSE = frozenset(
    (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
)


def list_dense(x: Tensor) -> list[Tensor]:
    """The dense tensors that have the memory of `x`, its numbers last.

    None of a tensor that shows none: a fake sparse one, one within `torch.func` or `vmap`, one of a
    layout of a library.
    """
    if is_functorch_wrapped_tensor(x):
        return []
    if x.layout == torch.strided:
        return [x.values()] if x.is_nested else [x]
    if isinstance(x, FakeTensor) or x.layout not in SPARSE:
        return []
    if x.layout == torch.sparse_coo:
        return [x._indices(), x._values()]
    rows = x.layout in (torch.sparse_csr, torch.sparse_bsr)
    indices = [x.crow_indices(), x.col_indices()] if rows else [x.ccol_indices(), x.row_indices()]
    return [*indices, x.values()]
