"""Write back what operations write into memory that twins share with the user's tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class _Saving(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Copies a storage before the first operation that writes into it."""

    supports_higher_order_operators = True

    def __init__(self, storages: Mapping[int, torch.UntypedStorage]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._storages = storages
        self.saved: dict[int, torch.UntypedStorage] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Save what `func` is about to write into, and run it."""
        kwargs = kwargs or {}
        schema = getattr(func, "_schema", None)  # higher-order operations have none
        if schema is not None and schema.is_mutable:
            for place, argument in enumerate(schema.arguments):
                info = argument.alias_info
                if info is not None and info.is_write:
                    given = args[place] if place < len(args) else kwargs.get(argument.name)
                    self._save(given)
        return func(*args, **kwargs)

    def _save(self, given: object) -> None:
        if isinstance(given, list | tuple):
            for each in given:
                self._save(each)
        elif isinstance(given, Tensor) and given.layout == torch.strided:
            key = given.untyped_storage()._cdata
            if key in self._storages and key not in self.saved:
                self.saved[key] = self._storages[key].clone()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def undone(storages: Mapping[int, torch.UntypedStorage]) -> Iterator[None]:
    """Afterwards these storages, given by address, hold the bytes that they hold now."""
    if not storages:
        yield
        return
    saving = _Saving(storages)
    try:
        with saving:
            yield
    finally:
        for key, bytes_before in saving.saved.items():
            storage = storages[key]
            if storage.nbytes() != bytes_before.nbytes():
                storage.resize_(bytes_before.nbytes())
            storage.copy_(bytes_before)
