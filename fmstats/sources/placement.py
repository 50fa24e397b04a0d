"""Choose where a model runs and its inputs belong: device, dtype and memory format."""

from __future__ import annotations

import copy
from typing import Any

import torch

from fmstats.errors import FmstatsError
from fmstats.sources.entrypoints import describe_error

# Dtypes that inputs can have; a quantized or float8 weight says nothing about its input.
_INPUT_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def move_model(
    model: torch.nn.Module,
    device: str | torch.device | None,
    dtype: torch.dtype | None,
    channels_last: bool,
) -> torch.nn.Module:
    """Move `model` itself, floating tensors also to `dtype`, and return it.

    Raises:
        FmstatsError: the device does not exist here, or a tensor cannot be moved to it.
    """
    options: dict[str, Any] = {"memory_format": torch.channels_last} if channels_last else {}
    try:
        return model.to(device=device, dtype=dtype, **options)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        found = (
            torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        )
        usable = "cpu" if found is None else f"cpu, {found.type}"
        kept = "as it is"
        raise FmstatsError(
            f"the model cannot be moved (device: {device or kept}, dtype: {dtype or kept}): "
            f"{type(error).__name__}: {error}; devices usable here: {usable}"
        ) from error


def is_placed(
    model: torch.nn.Module,
    device: str | torch.device | None,
    dtype: torch.dtype | None,
    channels_last: bool,
) -> bool:
    """Return whether `model` is already where it shall run, so that no copy is needed."""
    kind, _, index = str(device or "").partition(":")
    for tensor in _list_tensors(model):
        if kind and (tensor.device.type != kind or (index and str(tensor.device.index) != index)):
            return False
        if dtype is not None and tensor.is_floating_point() and tensor.dtype != dtype:
            return False
        wrong = tensor.dim() == 4 and not tensor.is_contiguous(memory_format=torch.channels_last)
        if channels_last and wrong:
            return False
    return True


def copy_model(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy that shares no tensor with `model`.

    Raises:
        FmstatsError: the model holds something that cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise FmstatsError(
            "the model cannot be copied to run on another device, dtype or memory format "
            f"({describe_error(error)}): move it yourself with model.to(...)"
        ) from error


def find_placement(
    model: torch.nn.Module, device: str | torch.device | None, dtype: torch.dtype | None
) -> tuple[torch.device | None, torch.dtype | None]:
    """Return the device and dtype of inputs; None where nothing determines them.

    Raises:
        FmstatsError: `device` is not the name of a device.
    """
    tensors = _list_tensors(model)
    floating = [tensor for tensor in tensors if tensor.dtype in _INPUT_DTYPES]
    if device is None and tensors:
        device = (floating or tensors)[0].device
    if dtype is None and floating:
        dtype = floating[0].dtype
    try:
        return None if device is None else torch.device(device), dtype
    except RuntimeError as error:
        raise FmstatsError(f"device {device!r} is not understood: {error}") from error


def _list_tensors(model: torch.nn.Module) -> list[torch.Tensor]:
    """List parameters and buffers, except those that lazy modules make in their first run."""
    tensors = [*model.parameters(), *model.buffers()]
    return [tensor for tensor in tensors if not torch.nn.parameter.is_lazy(tensor)]
