"""Find shapes and memory of sparse and nested tensors, and those in a library's layout."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

SPARSE = frozenset(
    (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
)


def list_dense(x: Tensor) -> list[Tensor]:
    """List the dense tensors that have the memory of `x`, its numbers last.

    None of a tensor that shows none: a fake sparse one, one within `torch.func` or `vmap`, one of a
    layout of a library.
    """
    if is_functorch_wrapped_tensor(x):
        return []
    if x.layout == torch.strided:
        return [x.values()] if is_nested(x) else [x]
    if isinstance(x, FakeTensor) or x.layout not in SPARSE:
        return []
    with _disable_current_modes():  # Under a fake mode a real one has real parts as well.
        if x.layout == torch.sparse_coo:
            return [x._indices(), x._values()]
        if x.layout in (torch.sparse_csr, torch.sparse_bsr):
            return [x.crow_indices(), x.col_indices(), x.values()]
        return [x.ccol_indices(), x.row_indices(), x.values()]


def is_nested(x: Tensor) -> bool:
    """Return whether a tensor is a list of tensors that has no shape of its own."""
    return x.is_nested and x.layout == torch.strided


def shape_of(x: Tensor) -> tuple[int, ...] | None:
    """Return a tensor's shape, None for a list of tensors; -1 is a length that varies."""
    return None if is_nested(x) else tuple(n if isinstance(n, int) else -1 for n in x.shape)
