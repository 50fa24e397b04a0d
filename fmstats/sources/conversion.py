"""Convert NumPy arrays to tensors of the same values, or say why that is impossible."""

from __future__ import annotations

import numpy as np
import torch

from fmstats.errors import FmstatsError

# PyTorch has these types, but hardly an operation for them: no embedding looks tokens up by them.
_WIDER = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}


def to_tensor(value: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Return a NumPy array as a tensor, sharing its memory where PyTorch allows it.

    Unsigned integers of more than 8 bits become signed ones of more bits, of the same values.

    Raises:
        FmstatsError: the dtype (text, objects, records, more than 64 bits a number) has no
            counterpart in PyTorch; elements are masked; integers are beyond 2^63 - 1.
    """
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ma.MaskedArray):
        value = _unmask(value)
    wider = _WIDER.get(value.dtype.name)
    if wider is not None:
        return torch.from_numpy(_widen(value, wider))
    # PyTorch takes neither foreign byte order nor read-only memory (it warns).
    if not value.dtype.isnative or not value.flags.writeable:
        value = value.astype(value.dtype.newbyteorder("="))
    try:
        return torch.as_tensor(value)
    except ValueError:  # strides that run backwards, or between elements
        return torch.as_tensor(value.copy())
    except TypeError as error:
        raise FmstatsError(
            f"a NumPy array of dtype {value.dtype} cannot be a tensor: {_advise(value.dtype)}"
        ) from error


def _unmask(value: np.ma.MaskedArray) -> np.ndarray:
    """Return the array without a mask that masks nothing."""
    masked = int(np.ma.getmaskarray(value).sum())
    if masked:
        raise FmstatsError(
            f"a masked array has {masked:,} of {value.size:,} elements masked, which a model would "
            "take for numbers: fill them in, such as with array.filled(0), or leave them out"
        )
    return np.asarray(value.data)


def _widen(value: np.ndarray, wider: str) -> np.ndarray:
    largest = int(value.max(initial=0))
    if largest > np.iinfo(wider).max:
        raise FmstatsError(
            f"a NumPy array of dtype {value.dtype} has {largest}: PyTorch computes with integers "
            "up to 2^63 - 1"
        )
    return value.astype(wider)


def _advise(dtype: np.dtype) -> str:
    if dtype.names:
        first = dtype.names[0]
        return f"it has the fields {', '.join(dtype.names)}; give one, such as array[{first!r}]"
    if dtype.kind in "fc":
        smaller = "float64" if dtype.kind == "f" else "complex128"
        return f"convert it, such as with array.astype({smaller!r})"
    if dtype.kind == "V":
        return "NumPy saves types like bfloat16 so that it knows only their size; use .safetensors"
    return "give numbers or booleans"
