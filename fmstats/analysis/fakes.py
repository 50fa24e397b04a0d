"""Fake tensors for operations whose rules for these ask for more than their kernels do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fmstats.analysis.names import name_of

Shape = tuple[int, ...]


def fake_mode() -> FakeTensorMode:
    """A mode under which tensors have shapes, dtypes and devices, and no numbers."""
    return _Fakes(allow_non_fake_inputs=True)


class _Fakes(FakeTensorMode):  # type: ignore[no-untyped-call]  # torch's own
    def dispatch(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] = {}
    ) -> Any:
        shape_of = _SHAPES.get(name_of(func))
        if shape_of is None:
            return super().dispatch(func, types, args, kwargs)
        shape = shape_of(*args)
        with self:
            return torch.empty(shape, dtype=_dtype(args, kwargs), device=args[0].device)


def _dtype(args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.dtype:
    given = args[4] if len(args) > 4 else kwargs.get("out_dtype")
    dtype: torch.dtype = args[0].dtype if given is None else given
    return dtype


def _grouped(a: Tensor, b: Tensor, ends: Tensor | None = None, *args: Any) -> Shape:
    """Of matrices, or of one whose rows, columns or inner dim are in groups that end at `ends`.

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


_SHAPES: dict[str, Callable[..., Shape]] = {"_grouped_mm": _grouped}
