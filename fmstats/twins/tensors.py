"""Twins of tensors: they share no object with the user's, and keep ties, views and shared storages.

A fake twin takes no memory. A real one of a parameter reads the parameter's own memory, which
`fmstats.twins.undo` guards; of any other tensor it has a copy, which a forward pass may write into.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

# Forward passes read sizes and switches from small tensors that are no buffers: they keep values.
_SMALL = 1 << 16


class Tensors(Protocol):
    """Makes twins, each storage's once."""

    def own(self, state: Iterable[Tensor]) -> None:
        """Take note of a model's parameters and buffers, before any twin is made."""

    def twin(self, tensor: Tensor) -> Tensor:
        """A new tensor object of the same shape, strides, dtype and `requires_grad`, a leaf."""


class RealTensors:
    """Twins with values.

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
        for tensor in filter(_has_storage, state):
            key = tensor.untyped_storage()._cdata
            is_parameter = isinstance(tensor, nn.Parameter)
            self._owned[key] = is_parameter or self._owned.get(key, False)

    def twin(self, tensor: Tensor) -> Tensor:
        """A new tensor object with the same values, a leaf."""
        if _has_storage(tensor):
            plain = _view(self._storage_of(tensor), tensor)
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
            if is_parameter and _same_device(source.device, device):
                self.aliased[key] = made = source
            else:
                made = torch.UntypedStorage(source.nbytes(), device=device)  # type: ignore[no-untyped-call]
                made.copy_(source)
            self._storages[key] = source, made  # the source is held, so that its address stays its
        return self._storages[key][1]


class FakeTensors:
    """Twins without values: of parameters, of buffers, and of all that is large.

    Args:
        mode: that makes them.
        home: the device on which they pretend to lie.
    """

    def __init__(self, mode: FakeTensorMode, home: torch.device) -> None:
        self._mode, self._home = mode, home
        self._small = RealTensors()
        self._storages: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def own(self, state: Iterable[Tensor]) -> None:
        """Take note of a model's parameters and buffers, before any twin is made."""
        for tensor in filter(_has_storage, state):
            self._storage_of(tensor)

    def twin(self, tensor: Tensor) -> Tensor:
        """A new tensor object, a leaf."""
        if not _has_storage(tensor):
            if is_traceable_wrapper_subclass(tensor):
                return self._mode.from_tensor(tensor.detach())
            # What products of sparse tensors cost depends on what they hold.
            if tensor.layout != torch.strided and tensor.device.type != "meta":
                return self._small.twin(tensor)
            plain = torch.empty_like(tensor, device="meta", requires_grad=False)
        else:
            source = tensor.untyped_storage()
            small = source.nbytes() <= _SMALL and source._cdata not in self._storages
            if small and source.device.type != "meta" and not isinstance(tensor, FakeTensor):
                return self._small.twin(tensor)
            plain = _view(self._storage_of(tensor), tensor)
        fake = FakeTensor(self._mode, plain, self._home)
        fake.requires_grad_(tensor.requires_grad)
        if isinstance(tensor, nn.Parameter):
            fake._is_param = True  # what isinstance() asks for
        return fake

    def _storage_of(self, tensor: Tensor) -> torch.UntypedStorage:
        source = tensor.untyped_storage()
        if source._cdata not in self._storages:
            memory = torch.empty(source.nbytes(), dtype=torch.uint8, device="meta")
            self._storages[source._cdata] = source, memory.untyped_storage()
        return self._storages[source._cdata][1]


def _has_storage(tensor: Tensor) -> bool:
    return (
        tensor.layout == torch.strided
        and not tensor.is_quantized
        and not (tensor.is_complex() and tensor.is_conj())
        and not tensor.is_neg()
        and not is_traceable_wrapper_subclass(tensor)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def _view(storage: torch.UntypedStorage, like: Tensor) -> Tensor:
    empty = torch.empty(0, dtype=like.dtype, device=storage.device)
    return empty.set_(storage, like.storage_offset(), like.size(), like.stride())


def _like(plain: Tensor, tensor: Tensor) -> Tensor:
    """`plain` as an object of the class of `tensor`."""
    kind = type(tensor)
    if isinstance(tensor, nn.Parameter) and type(plain) is Tensor:
        of = nn.Parameter if kind is Tensor else kind  # some are parameters by a flag alone
        return torch.Tensor._make_subclass(of, plain, tensor.requires_grad)
    if kind is not type(plain) and kind is not FakeTensor:
        plain = plain.as_subclass(kind)
    return plain.requires_grad_(tensor.requires_grad)


def _same_device(a: torch.device, b: torch.device) -> bool:
    return a.type == b.type and (a.index == b.index or b.index is None)
