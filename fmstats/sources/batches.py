"""What one batch means to a model: its arguments, its number of samples, how to move and cut it.

The forms, in the order they are tried:
    Tensor or NumPy array      model(batch)
    mapping                    model(**batch)
    (x, ...) or [x, ...]       x is the input and the rest (labels) is dropped:
        x a tuple or a list    model(*x), the several inputs of one model
        x a mapping            model(**x)
        x anything else        model(x)
Samples are counted along the first dimension of the first tensor, or over the items of the first
list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from fmstats.errors import FmstatsError


@dataclass(frozen=True)
class ModelInput:
    """The arguments of one call of a model."""

    args: tuple[object, ...] = ()
    kwargs: dict[str, object] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """Number of samples; 1 where no argument is a tensor or a list."""
        return next((size for size in map(_count_items, self._values()) if size is not None), 1)

    def cut(self, samples: int) -> ModelInput:
        """The first `samples` samples.

        The whole input is returned where its tensors and lists differ in their number of items:
        nothing then tells which of them run along the samples.
        """
        sizes = {size for size in map(_count_items, self._values()) if size is not None}
        if len(sizes) != 1 or samples >= self.samples:
            return self

        def shorten(value: object) -> object:
            return value if _count_items(value) is None else value[:samples]  # type: ignore[index]

        return ModelInput(
            tuple(map(shorten, self.args)), {k: shorten(v) for k, v in self.kwargs.items()}
        )

    def to(
        self, device: torch.device | None, dtype: torch.dtype | None, channels_last: bool
    ) -> ModelInput:
        """Move every tensor to `device`; floating ones also to `dtype`. Integers stay integers."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            target = dtype if tensor.is_floating_point() else None
            moved = tensor.to(device=device, dtype=target)
            if channels_last and moved.dim() == 4:
                moved = moved.contiguous(memory_format=torch.channels_last)
            return moved

        return ModelInput(
            tuple(map_tensors(move, value) for value in self.args),
            {name: map_tensors(move, value) for name, value in self.kwargs.items()},
        )

    def describe(self) -> str:
        """The shape and dtype of each argument, e.g. `(32, 3, 224, 224) float32`."""
        named = [(None, value) for value in self.args] + list(self.kwargs.items())
        texts = [f"{name}: {_describe(v)}" if name else _describe(v) for name, v in named]
        return ", ".join(texts) or "nothing"

    def _values(self) -> list[object]:
        return [*self.args, *self.kwargs.values()]


def read_batch(batch: object, number: int) -> ModelInput:
    """Return the arguments that `batch`, the `number`-th of its data, stands for.

    Raises:
        FmstatsError: it has none of the forms at the head of this module.
    """
    if isinstance(batch, ModelInput):
        return batch
    if isinstance(batch, torch.Tensor | np.ndarray):
        return ModelInput((to_tensor(batch),))
    if isinstance(batch, Mapping):
        return _read_keywords(batch, number)
    if isinstance(batch, tuple | list) and batch:
        first = batch[0]
        if isinstance(first, Mapping):
            return _read_keywords(first, number)
        # A named tuple, such as a PackedSequence, is one value and not several arguments.
        if type(first) in (tuple, list):
            return ModelInput(tuple(map_tensors(_same, value) for value in first))
        return ModelInput((map_tensors(_same, first),))
    empty = "empty " if isinstance(batch, tuple | list) else ""
    raise FmstatsError(
        f"batch {number} is of type {empty}{type(batch).__name__}: a batch is a tensor, "
        "a tuple or list whose first element is the input, or a dict of keyword arguments"
    )


def read_batches(batches: Iterable[object], limit: int | None = None) -> Iterator[ModelInput]:
    """Yield the arguments of each batch until `limit` samples have passed, the last cut to fit."""
    left = limit
    for number, batch in enumerate(batches, start=1):
        inputs = read_batch(batch, number)
        if left is None:
            yield inputs
            continue
        inputs = inputs.cut(left)
        yield inputs
        left -= inputs.samples
        if left <= 0:  # Here, not in the head of the loop: no batch is read in vain.
            return


def to_tensor(value: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Return a NumPy array as a tensor, sharing its memory where PyTorch allows it.

    Raises:
        FmstatsError: the dtype (text, objects, records) has no counterpart in PyTorch.
    """
    if isinstance(value, torch.Tensor):
        return value
    # PyTorch takes neither foreign byte order nor read-only memory (it warns).
    if not value.dtype.isnative or not value.flags.writeable:
        value = value.astype(value.dtype.newbyteorder("="))
    try:
        return torch.as_tensor(value)
    except TypeError as error:
        raise FmstatsError(
            f"a NumPy array of dtype {value.dtype} cannot be a tensor: give numbers or booleans"
        ) from error


def map_tensors(change: Callable[[torch.Tensor], torch.Tensor], value: object) -> object:
    """Apply `change` to every tensor or NumPy array inside tuples, lists and mappings."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return change(to_tensor(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        named: Callable[..., object] = type(value)
        return named(*(map_tensors(change, item) for item in value))
    if isinstance(value, tuple | list):
        kind = list if isinstance(value, list) else tuple
        return kind(map_tensors(change, item) for item in value)
    if isinstance(value, Mapping):
        return {name: map_tensors(change, item) for name, item in value.items()}
    return value


def _read_keywords(batch: Mapping[object, object], number: int) -> ModelInput:
    odd = [name for name in batch if not isinstance(name, str)]
    if odd:
        raise FmstatsError(
            f"batch {number} is a dict with the key {odd[0]!r}: its keys are the names of the "
            "model's arguments"
        )
    return ModelInput(
        kwargs={str(name): map_tensors(_same, value) for name, value in batch.items()}
    )


def _count_items(value: object) -> int | None:
    if isinstance(value, torch.Tensor):
        return value.size(0) if value.dim() else None
    return len(value) if isinstance(value, tuple | list) else None


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
