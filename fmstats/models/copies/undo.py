"""`undone` writes back what operations wrote into the memory of the user's tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Saving(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """It copies a storage before the first operation that writes into it.

    Args:
        storages: those that are watched, by address.
    """

    supports_higher_order_operators = True

    def __init__(self, storages: Mapping[int, torch.UntypedStorage]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._storages = storages
        self._saved: dict[int, torch.UntypedStorage] = {}

    def put_back(self) -> None:
        """Write into the storages the bytes that they had."""
        for key, before in self._saved.items():
            storage = self._storages[key]
            if storage.nbytes() != before.nbytes():
                storage.resize_(before.nbytes())
            storage.copy_(before)

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
            if key in self._storages and key not in self._saved:
                self._saved[key] = self._storages[key].clone()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def undone(storages: Mapping[int, torch.UntypedStorage]) -> Iterator[None]:
    """Have these storages, given by address, hold afterwards the bytes that they hold now."""
    if not storages:
        yield
        return
    saving = Saving(storages)
    try:
        with saving:
            yield
    finally:
        saving.put_back()
