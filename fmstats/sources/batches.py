"""Interpret one batch: its arguments, its number of samples, how to move and cut it.

The forms, in the order they are tried:
    Tensor or NumPy array      model(batch)
    mapping                    model(**batch)
    (x, ...) or [x, ...]       x is the input and the rest (labels) is dropped:
        x a tuple or a list    model(*x), the several inputs of one model
        x a mapping            model(**x)
        x anything else        model(x)
How many samples a batch holds is read off its entries, labels among them, or said by whoever made
it; a lone tensor does not say (see `ModelInput.samples`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from fmstats.errors import FmstatsError
from fmstats.sources.conversion import to_tensor


@dataclass(frozen=True)
class ModelInput:
    """Holds the arguments of one call of a model.

    Attributes:
        labels: what the batch holds beside them; it helps to count samples.
        batch_dim: the dim along which samples run, where whoever made the batch knows; None: what
            the entries share.
        stacked: a lone tensor or list counts as a stack of samples where nothing says otherwise.
    """

    args: tuple[object, ...] = ()
    kwargs: dict[str, object] = field(default_factory=dict)
    labels: tuple[object, ...] = ()
    batch_dim: int | None = None
    stacked: bool = False

    @property
    def entries(self) -> list[object]:
        """Return the arguments, positional ones first."""
        return [*self.args, *self.kwargs.values()]

    @property
    def samples(self) -> int | None:
        """Return the number of samples; None where it is unknown, e.g. for a lone tensor.

        With `batch_dim`: the size of that dim, if the arguments that have it agree. Without: the
        size of dim 0, if at least two entries of the batch have it and all agree. A list has a
        length instead. An entry of a single number beside larger ones, such as a temperature, does
        not count.
        """
        if self.batch_dim is not None:
            return _agree(self.entries, self.batch_dim, least=1)
        least = 1 if self.stacked else 2
        return _agree([*self.entries, *self.labels], 0, least)

    def cut(self, samples: int) -> ModelInput:
        """Return the first `samples` samples of all arguments that have the length of the batch.

        The whole input is returned where it has no more of them, or where nothing tells how many
        it has.
        """
        whole, dim = self.samples, self.batch_dim or 0
        if whole is None or samples >= whole:
            return self

        def shorten(value: object) -> object:
            if size_along(value, dim) != whole:
                return value
            if isinstance(value, torch.Tensor):
                return value.narrow(dim, 0, samples)
            return value[:samples] if isinstance(value, list) else value

        return replace(
            self,
            args=tuple(map(shorten, self.args)),
            kwargs={name: shorten(value) for name, value in self.kwargs.items()},
            labels=tuple(map(shorten, self.labels)),
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

        return replace(
            self,
            args=tuple(map_tensors(move, value) for value in self.args),
            kwargs={name: map_tensors(move, value) for name, value in self.kwargs.items()},
        )

    def describe(self) -> str:
        """Return the shape and dtype of each argument, e.g. `(32, 3, 224, 224) float32`."""
        named = [(None, value) for value in self.args] + list(self.kwargs.items())
        texts = [f"{name}: {_describe(v)}" if name else _describe(v) for name, v in named]
        return ", ".join(texts) or "nothing"


def read_batch(batch: object, number: int, batch_dim: int | None = None) -> ModelInput:
    """Return the arguments that `batch`, the `number`-th of its data, stands for.

    Args:
        batch: a batch.
        number: its place in the data, from 1, for messages.
        batch_dim: along which its samples run, where that is known; a ModelInput that knows its
            own keeps it.

    Raises:
        FmstatsError: it has none of the forms at the head of this module.
    """
    if isinstance(batch, ModelInput):
        known = batch.batch_dim is not None or batch_dim is None
        return batch if known else replace(batch, batch_dim=batch_dim)
    if isinstance(batch, torch.Tensor | np.ndarray):
        return ModelInput((to_tensor(batch),), batch_dim=batch_dim)
    if isinstance(batch, Mapping):
        return ModelInput(kwargs=_read_keywords(batch, number), batch_dim=batch_dim)
    if isinstance(batch, tuple | list) and batch:
        first, *labels = batch
        beside: Any = {"labels": tuple(labels), "batch_dim": batch_dim}
        if isinstance(first, Mapping):
            return ModelInput(kwargs=_read_keywords(first, number), **beside)
        # A named tuple, such as a PackedSequence, is one value and not several arguments.
        if type(first) in (tuple, list):
            return ModelInput(tuple(map_tensors(_same, value) for value in first), **beside)
        return ModelInput((map_tensors(_same, first),), **beside)
    empty = "empty " if isinstance(batch, tuple | list) else ""
    raise FmstatsError(
        f"batch {number} is of type {empty}{type(batch).__name__}: a batch is a tensor, "
        "a tuple or list whose first element is the input, or a dict of keyword arguments"
    )


def read_batches(
    batches: Iterable[object], limit: int | None = None, batch_dim: int | None = None
) -> Iterator[ModelInput]:
    """Yield the arguments of each batch until `limit` samples have passed, the last cut to fit.

    Raises:
        FmstatsError: there is a limit, and the number of samples in a batch is unknown.
    """
    left = limit
    batch_dim = find_batch_dim(batches) if batch_dim is None else batch_dim
    for number, batch in enumerate(batches, start=1):
        inputs = read_batch(batch, number, batch_dim)
        if left is None:
            yield inputs
            continue
        inputs = inputs.cut(left)
        left -= require_samples(inputs, number)
        yield inputs
        if left <= 0:  # Here, not in the head of the loop: no batch is read in vain.
            return


def require_samples(inputs: ModelInput, number: int) -> int:
    """Return the number of samples of a batch, which a limit of samples needs.

    Raises:
        FmstatsError: the number is unknown.
    """
    if inputs.samples is None:
        raise FmstatsError(
            f"limit= counts samples, and nothing tells how many batch {number} has, "
            f"{inputs.describe()}: say along which dim they run, batch_dim=0 for the first "
            "(--batch-dim 0), or leave limit= out and give fewer batches"
        )
    return inputs.samples


@dataclass(frozen=True)
class Stack:
    """Splits a tensor of samples into batches of `batch_size`; the last may be smaller."""

    samples: torch.Tensor
    batch_size: int

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Start at the first."""
        return iter(torch.split(self.samples, self.batch_size))


def find_batch_dim(batches: object) -> int | None:
    """Return the dim along which an iterable's batches hold their samples; None if unknown.

    A DataLoader that collates as usual stacks samples along dim 0; a function of the user's, given
    as `collate_fn`, may put them anywhere.
    """
    if isinstance(batches, Stack):
        return 0
    if isinstance(batches, torch.utils.data.DataLoader) and batches.batch_sampler is not None:
        usual = torch.utils.data.default_collate
        return 0 if batches.collate_fn is usual else None
    return None


def size_along(value: object, dim: int) -> int | None:
    """Return the size of an entry of a batch along `dim`; None where it has no such dim.

    A list has its length along dim 0, and a packed sequence as many as it has sequences.
    """
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.shape[dim] if -value.ndim <= dim < value.ndim else None
    if isinstance(value, torch.nn.utils.rnn.PackedSequence):
        return int(value.batch_sizes[0])
    return len(value) if isinstance(value, list) and dim == 0 else None


def _agree(entries: Iterable[object], dim: int, least: int) -> int | None:
    """Return the size along `dim` that all entries with this dim share, if `least` have it."""
    known = [(value, size) for value in entries if (size := size_along(value, dim)) is not None]
    larger = [pair for pair in known if not _is_number(pair[0])]
    for pairs in (known, larger):
        sizes = {size for _, size in pairs}
        packed = any(isinstance(value, tuple) for value, _ in pairs)
        if len(sizes) == 1 and (packed or len(pairs) >= least):
            return sizes.pop()
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, torch.Tensor | np.ndarray) and value.shape in ((), (1,))


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


def _read_keywords(batch: Mapping[object, object], number: int) -> dict[str, object]:
    odd = [name for name in batch if not isinstance(name, str)]
    if odd:
        raise FmstatsError(
            f"batch {number} is a dict with the key {odd[0]!r}: its keys are the names of the "
            "model's arguments"
        )
    return {str(name): map_tensors(_same, value) for name, value in batch.items()}


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
