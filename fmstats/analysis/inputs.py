"""Make the inputs of a model's call from tensors, or from sizes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

import torch
from torch import Tensor, nn

from fmstats.errors import FmstatsError
from fmstats.sources.batches import ModelInput, map_tensors

Size = Sequence[int]
Sizes = Union[Size, Sequence[Size], Mapping[str, Size]]  # noqa: UP007  # holds no class
Dtypes = Union[torch.dtype, Sequence[torch.dtype], Mapping[str, torch.dtype]]  # noqa: UP007

Make = Callable[..., Tensor]


def read_inputs(
    model: nn.Module,
    inputs: tuple[object, ...],
    input_size: Sizes | None,
    dtype: Dtypes | None,
    make: Make,
) -> ModelInput:
    """Return the arguments of the model's call, as tensors that `make(size, dtype)` gives.

    Raises:
        FmstatsError: neither tensors nor sizes were given, or both; a size or dtype of no known
            form.
    """
    if (input_size is None) == (not inputs):
        given = "both" if inputs else "neither"
        raise FmstatsError(
            f"analyze() got {given} of inputs and input_size: give tensors, as in "
            "analyze(model, x), or a size, as in analyze(model, input_size=(1, 3, 224, 224))"
        )
    if input_size is None:
        if dtype is not None and not isinstance(dtype, torch.dtype):
            raise FmstatsError(f"dtype={dtype!r}: beside tensors give one dtype, or none")
        return _from_values(model, inputs, dtype, make)
    default = _dtype_of(model)
    if isinstance(input_size, Mapping):
        sizes = {name: _read_size(size) for name, size in input_size.items()}
        if isinstance(dtype, Sequence) or (isinstance(dtype, Mapping) and dtype.keys() - sizes):
            raise FmstatsError(
                f"dtype={dtype!r} does not fit the inputs {', '.join(sizes)}: give one, or a dict "
                "by these names"
            )
        dtypes = dtype if isinstance(dtype, Mapping) else dict.fromkeys(sizes, dtype)
        tensors = {n: make(size, dtypes.get(n) or default) for n, size in sizes.items()}
        return _called_with(model, (tensors,))
    several = bool(input_size) and all(isinstance(size, Sequence) for size in input_size)
    listed = [_read_size(size) for size in (input_size if several else [input_size])]
    many = list(dtype) if isinstance(dtype, Sequence) else [dtype] * len(listed)
    if isinstance(dtype, Mapping) or len(many) != len(listed):
        raise FmstatsError(
            f"dtype={dtype!r} does not fit {len(listed)} sizes: give one, or as many"
        )
    return ModelInput(tuple(make(s, d or default) for s, d in zip(listed, many, strict=True)))


def _from_values(
    model: nn.Module, inputs: tuple[object, ...], dtype: torch.dtype | None, make: Make
) -> ModelInput:
    def like(tensor: Tensor) -> Tensor:
        wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        return make(tuple(tensor.shape), wanted, tensor)

    called = _called_with(model, inputs)
    return ModelInput(
        tuple(map_tensors(like, value) for value in called.args),
        {name: map_tensors(like, value) for name, value in called.kwargs.items()},
    )


def _called_with(model: nn.Module, inputs: tuple[Any, ...]) -> ModelInput:
    """Take a single mapping as keyword arguments if the model's `forward` knows its keys."""
    if len(inputs) == 1 and isinstance(inputs[0], Mapping):
        parameters = inspect.signature(model.forward).parameters.values()
        known = {p.name for p in parameters}
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
        keys = list(inputs[0])
        if all(isinstance(key, str) and (open_ended or key in known) for key in keys):
            return ModelInput(kwargs=dict(inputs[0]))
    return ModelInput(inputs)


def _read_size(size: object) -> tuple[int, ...]:
    if not isinstance(size, Sequence) or not all(isinstance(n, int) and n >= 0 for n in size):
        raise FmstatsError(
            f"input_size {size!r} is not a size: give whole numbers, as in (1, 3, 224, 224), a "
            "list of such sizes, or a dict of sizes by argument name"
        )
    return tuple(size)


def _dtype_of(model: nn.Module) -> torch.dtype:
    floating = (p.dtype for p in model.parameters() if p.dtype.is_floating_point)
    return next(floating, torch.get_default_dtype())
