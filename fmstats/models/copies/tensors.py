"""Twins of tensors share no object with the user's, but keep ties, views, shared storages.

The twin of a parameter, and of all that is large, reads the tensor's own memory, which
`fmstats.models.copies.undo` guards; that of any other tensor has a copy, which a forward pass may
write to.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

_LARGE = 1 << 26  # bytes


class Tensors(Protocol):
    """`Tensors` makes twins, each storage's once."""

    def own(self, state: Iterable[Tensor]) -> None:
        """Take note of a model's parameters and buffers, before any twin is made."""

    def twin(self, tensor: Tensor) -> Tensor:
        """Return a new leaf of the same shape, strides, dtype and `requires_grad`."""


class RealTensors:
    """`RealTensors` makes twins with values.

    Args:
        device: for parameters and buffers; None: where each is.

    Attributes:
        aliased: storages of the user's that twins read, by address.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.aliased: dict[int, torch.UntypedStorage] = {}
        self._device = device
        self._storages: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self._owned: dict[int, bool] = {}  # by storage: whether a parameter is in it

    def own(self, state: Iterable[Tensor]) -> None:
        """Take note of a model's parameters and buffers, before any twin is made."""
        for tensor in filter(has_storage, state):
            key = tensor.untyped_storage()._cdata
            is_parameter = isinstance(tensor, nn.Parameter)
            self._owned[key] = is_parameter or self._owned.get(key, False)

    def twin(self, tensor: Tensor) -> Tensor:
        """Return a new tensor object with the same values, a leaf."""
        if nn.parameter.is_lazy(tensor):
            return copy.deepcopy(tensor)
        if has_storage(tensor):
            plain = view_of(self._storage_of(tensor), tensor)
        else:
            plain = tensor.detach().clone()
            if self._device is not None:
                plain = plain.to(self._device)
        return _like(plain, tensor)

    def _storage_of(self, tensor: Tensor) -> torch.UntypedStorage:
        source = tensor.untyped_storage()
        key = source._cdata
        if key not in self._storages:
            is_parameter = self._owned.get(key)
            moved = is_parameter is not None and self._device is not None
            device = self._device if moved and self._device is not None else source.device
            read = is_parameter or source.nbytes() > _LARGE
            if read and _same_device(source.device, device):
                self.aliased[key] = made = source
            else:
                made = torch.UntypedStorage(source.nbytes(), device=device)  # type: ignore[no-untyped-call]
                made.copy_(source)
            self._storages[key] = source, made  # the source is held, so that its address stays its
        return self._storages[key][1]


def has_storage(tensor: Tensor) -> bool:
    """Tell whether a tensor is a plain view of memory."""
    return (
        not nn.parameter.is_lazy(tensor)
        and tensor.layout == torch.strided
        and not tensor.is_quantized
        and not (tensor.is_complex() and tensor.is_conj())
        and not tensor.is_neg()
        and not is_traceable_wrapper_subclass(tensor)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def view_of(storage: torch.UntypedStorage, like: Tensor) -> Tensor:
    """Return a tensor that lies in `storage` as `like` lies in its own."""
    empty = torch.empty(0, dtype=like.dtype, device=storage.device)
    return empty.set_(storage, like.storage_offset(), like.size(), like.stride())


def _like(plain: Tensor, tensor: Tensor) -> Tensor:
    """Return `plain` as an object of the class of `tensor`."""
    kind = type(tensor)
    if isinstance(tensor, nn.Parameter) and type(plain) is Tensor:
        of = nn.Parameter if kind is Tensor else kind  # some are parameters by a flag alone
        return torch.Tensor._make_subclass(of, plain, tensor.requires_grad)
    if kind is not type(plain):
        plain = plain.as_subclass(kind)
    return plain.requires_grad_(tensor.requires_grad)


def _same_device(a: torch.device, b: torch.device) -> bool:
    return a.type == b.type and (a.index == b.index or b.index is None)
