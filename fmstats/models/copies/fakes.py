"""`FakeTensors` makes twins of tensors without values, which take no memory."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from fmstats.models.copies.tensors import RealTensors, has_storage, view_of

# Forward passes read sizes and switches from small tensors that are no buffers: they keep values.
_SMALL = 1 << 16


class FakeTensors:
    """`FakeTensors` makes twins without values: of parameters, buffers, and all that is large.

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
        for tensor in filter(has_storage, state):
            self._storage_of(tensor)

    def twin(self, tensor: Tensor) -> Tensor:
        """Return a new tensor object, a leaf."""
        if not has_storage(tensor):
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
            plain = view_of(self._storage_of(tensor), tensor)
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
