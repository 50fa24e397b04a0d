"""Find the batch dim of a model's inputs from the types of the layers that take them.

A convolution has the batch in dim 0 or, of an input with one dim less, none; a recurrent layer in
dim 1 unless it was made with `batch_first=True`. Layers that take any number of dims (Linear,
LayerNorm, Embedding) give no hint. A hint holds for an input of the model only if its sizes
fit: between the two, a model may have moved the batch dim or merged it into another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fmstats.sources.batches import ModelInput, size_along

_CONVOLUTIONS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_SEQUENCES = (nn.RNNBase, nn.MultiheadAttention, nn.Transformer)
_BLOCKS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


@dataclass(frozen=True)
class BatchDimHint:
    """Says where one layer expects the samples in one of its inputs.

    Attributes:
        shape: of that input.
        dim: where its samples are; None: it is a single one, without a batch dim.
    """

    shape: tuple[int, ...]
    dim: int | None


@dataclass(frozen=True)
class Place:
    """Says where the samples of a batch are: along `dim`; None where a batch is one sample.

    Attributes:
        entry: the place among the arguments of one that has that dim.
    """

    entry: int
    dim: int | None

    def count(self, inputs: ModelInput) -> int | None:
        """Return the number of samples of a batch; None where it is unknown."""
        if self.dim is None or self.entry >= len(inputs.entries):
            return 1 if self.dim is None else None
        return size_along(inputs.entries[self.entry], self.dim)


def batch_dim_of(layer: nn.Module, dims: int) -> int | None:
    """Return the batch dim of a layer's input with `dims` dims; None where it has none.

    Raises:
        LookupError: its type does not determine the batch dim.
    """
    if isinstance(layer, _NORMS):
        return 0
    if isinstance(layer, _CONVOLUTIONS):
        return _choose(dims, len(layer.kernel_size) + 2, 0)
    if isinstance(layer, nn.RNNCellBase):
        return _choose(dims, 2, 0)
    if isinstance(layer, _BLOCKS):
        layer = layer.self_attn
    if isinstance(layer, _SEQUENCES):
        return _choose(dims, 3, 0 if layer.batch_first else 1)
    raise LookupError(type(layer).__name__)


def _choose(dims: int, batched: int, dim: int) -> int | None:
    if dims not in (batched, batched - 1):
        raise LookupError(f"{dims} dims")
    return dim if dims == batched else None


@contextlib.contextmanager
def collect_hints(model: nn.Module) -> Iterator[list[BatchDimHint]]:
    """Collect hints from hooks while a model runs; the hooks are removed afterwards."""
    hints: list[BatchDimHint] = []

    def note_hint(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None)
        if given is not None:
            with contextlib.suppress(LookupError):
                hints.append(BatchDimHint(tuple(given.shape), batch_dim_of(layer, given.dim())))

    hinting = (*_CONVOLUTIONS, *_NORMS, nn.RNNCellBase, *_BLOCKS, *_SEQUENCES)
    with contextlib.ExitStack() as stack:
        for layer in model.modules():
            if isinstance(layer, hinting) and not isinstance(layer, torch.jit.ScriptModule):
                hook = layer.register_forward_pre_hook(note_hint, prepend=True, with_kwargs=True)
                stack.callback(hook.remove)
        yield hints


def find_place(inputs: ModelInput, hints: Iterable[BatchDimHint]) -> Place | None:
    """Return where the samples of a batch are; None without hints, or where they disagree.

    A hint with a batch dim holds for an argument of that size along that dim; one of a single
    sample for an argument of the same shape.
    """
    places = {}
    for hint in hints:
        for entry, value in enumerate(inputs.entries):
            if hint.dim is None:
                fits = isinstance(value, Tensor) and tuple(value.shape) == hint.shape
            else:
                fits = size_along(value, hint.dim) == hint.shape[hint.dim]
            if fits:
                places[hint.dim, 1 if hint.dim is None else hint.shape[hint.dim]] = entry
                break
    if len({size for _, size in places}) != 1:
        return None
    (dim, _), entry = next(iter(places.items()))
    return Place(entry, dim)
