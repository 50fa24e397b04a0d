"""What tells one run from another, in short texts and numbers.

Two runs with the same identity fold the same batches with the same model in the same way, so that
one may go on where the other was broken off.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from fmstats.sources.data import DataSource
from fmstats.wrappers import hash_structure

Identity = dict[str, str | int | float | bool | None]

_SAMPLED = 64  # numbers of each tensor that go into the fingerprint of a model


def describe_model(model: torch.nn.Module) -> Identity:
    """The model's class, and fingerprints of its structure and weights.

    The weights are told by their names, shapes, dtypes and 64 numbers of each tensor.
    """
    weights = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor) and not torch.nn.parameter.is_lazy(tensor):
            weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            weights.update(_sample(tensor))
    return {
        "model": type(model).__name__,
        "structure": hash_structure(model),
        "weights": weights.hexdigest()[:16],
    }


def describe_data(batches: Iterable[object]) -> Identity:
    """What is known of the data without reading them."""
    if isinstance(batches, DataSource):
        known: Identity = {"data": batches.description}
        if batches.stored is not None:
            known |= {"batch_size": batches.stored.batch_size, **batches.stored.identity}
        return known
    try:
        length: int | None = len(batches)  # type: ignore[arg-type]
    except TypeError:
        length = None
    return {"data": type(batches).__name__, "batches of data": length}


def describe_options(options: Mapping[str, object]) -> Identity:
    """Options as text, unless they are numbers or None."""
    return {name: _plain(value) for name, value in options.items()}


def find_differences(there: Mapping[str, object], here: Mapping[str, object]) -> list[str]:
    """A text on each thing that two identities differ in."""
    return [
        f"{key}: {there.get(key)!r} there, {here.get(key)!r} here"
        for key in dict.fromkeys([*there, *here])
        if there.get(key) != here.get(key)
    ]


def checksum(inputs: object) -> str:
    """A fingerprint of the tensors of a batch, wherever they are inside it."""
    digest = hashlib.sha256()
    _add(digest, inputs)
    return digest.hexdigest()[:16]


def _add(digest: Any, value: object) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{tuple(value.shape)} {value.dtype} ".encode())
        digest.update(_sample(value, value.numel()))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            digest.update(str(key).encode())
            _add(digest, item)
    elif isinstance(value, tuple | list):
        for item in value:
            _add(digest, item)


def _sample(tensor: Tensor, most: int = _SAMPLED) -> bytes:
    """The bytes of up to about `most` numbers of a tensor, evenly over it."""
    try:
        flat = tensor.detach().reshape(-1)
        chosen = flat[:: max(1, flat.numel() // most)] if flat.numel() else flat
        return chosen.cpu().contiguous().view(torch.uint8).numpy().tobytes()
    except (RuntimeError, NotImplementedError, TypeError):  # Quantized, sparse, without memory.
        return b""


def _plain(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return _text(value)


def _text(value: object) -> str:
    if isinstance(value, re.Pattern):
        return f"re.compile({value.pattern!r})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(k)}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        texts = map(_text, value)
        return ", ".join(sorted(texts) if isinstance(value, set | frozenset) else texts)
    if isinstance(value, torch.device):
        return value.type
    if callable(value):  # A module type or a function, whose repr may hold an address.
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}.{named.__qualname__}"
    return str(value)
