"""Run a pass on fake tensors, also where PyTorch's own rules for these refuse an operation.

PyTorch's rule may refuse what the kernel takes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
    _get_current_dispatch_mode_stack,
)

from fmstats.analysis.names import name_of
from fmstats.analysis.storages import SPARSE

Shape = tuple[int, ...]


@contextlib.contextmanager
def faking(mode: FakeTensorMode) -> Iterator[None]:
    """Give tensors shapes, dtypes and devices but no numbers, within this context."""
    with mode, _MoreShapes():  # type: ignore[no-untyped-call]  # torch's own
        yield


def are_faked() -> bool:
    """Return whether tensors that are made now are fake."""
    return any(isinstance(mode, FakeTensorMode) for mode in _get_current_dispatch_mode_stack())


class _MoreShapes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    # A mode beside, and no kind of FakeTensorMode: higher-order operators know that by its class.
    supports_higher_order_operators = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        if name in _SHAPES:
            shape, dtype = _SHAPES[name](*args), _dtype(args, kwargs)
            return torch.empty(shape, dtype=dtype, device=args[0].device)
        if name in _TURNS and _is_real_sparse(args[0]):
            with _disable_current_modes():
                return func(*args, **kwargs)
        return func(*(_without_base(x) if _is_real_sparse(x) else x for x in args), **kwargs)


def _is_real_sparse(x: Any) -> bool:
    return isinstance(x, Tensor) and x.layout in SPARSE and not isinstance(x, FakeTensor)


def _without_base(x: Tensor) -> Tensor:
    """Return `x`, copied if it is a view: there is no fake tensor of a sparse view."""
    with _disable_current_modes():
        return x.clone() if x._is_view() else x


def _dtype(args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.dtype:
    given = args[4] if len(args) > 4 else kwargs.get("out_dtype")
    dtype: torch.dtype = args[0].dtype if given is None else given
    return dtype


def _grouped(a: Tensor, b: Tensor, ends: Tensor | None = None, *args: Any) -> Shape:
    """Return the shape of a product of matrices, some with a dim in groups that end at `ends`.

    PyTorch's rule takes bfloat16 alone, its kernel for CPUs any type.
    """
    if a.shape[-1] != b.shape[-2]:
        raise RuntimeError(f"contraction dimension of {tuple(a.shape)} and {tuple(b.shape)} differ")
    if a.dim() == b.dim() == 2:
        if ends is None:
            raise RuntimeError("offsets are needed to tell the groups of two matrices")
        return (ends.shape[0], a.shape[0], b.shape[1])
    batch = a.shape[:1] if a.dim() == b.dim() else ()
    return (*batch, a.shape[-2], b.shape[-1])


# Of a real sparse tensor these give a real one, of which it is known how many numbers it stores.
_TURNS = frozenset(("t", "transpose", "detach", "alias", "clone", "_coalesce"))
_SHAPES: dict[str, Callable[..., Shape]] = {"_grouped_mm": _grouped}
