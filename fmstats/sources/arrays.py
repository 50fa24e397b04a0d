"""Read tensors saved in `.npy`, `.npz` and `.safetensors` files as batches.

The first dimension runs along the samples. `.npy` is mapped and `.safetensors` is sliced, so only
one batch at a time is in memory; a `.npz` member is compressed and is read whole. Values keep their
dtype: fmstats.profile casts floats to the model's dtype and leaves integers alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fmstats.errors import FmstatsError, list_closest
from fmstats.output.tables import name_some
from fmstats.sources.conversion import to_tensor
from fmstats.sources.entrypoints import describe_error
from fmstats.sources.stored import Skipped

ARRAY_SUFFIXES = (".npy", ".npz", ".safetensors")

_KEYS_NAMED = 8  # in a message

# The suffix before it distinguishes the colon of a key from that of a drive letter.
_ARRAY_SPEC = re.compile(r"(?P<path>.+?\.(npy|npz|safetensors))(:(?P<key>.+))?", re.IGNORECASE)


@dataclass(frozen=True)
class StoredArray:
    """Describes an array on disk; `read(start, stop)` gives these samples as a new tensor."""

    shape: tuple[int, ...]
    read: Callable[[int, int], torch.Tensor]

    def read_spans(
        self, spans: Iterable[range], skipped: Skipped
    ) -> Iterator[tuple[range, torch.Tensor]]:
        """Yield each span of samples and what is there; nothing is ever left out."""
        for span in spans:
            yield span, self.read(span.start, span.stop)


def is_array_spec(spec: str) -> bool:
    """Return whether `spec` is a path ending in one of `ARRAY_SUFFIXES`, or that and `:KEY`."""
    return _ARRAY_SPEC.fullmatch(spec) is not None


def open_array(spec: str) -> StoredArray:
    """Open `file.npy`, `file.npz`, `file.npz:KEY`, `file.safetensors` or `file.safetensors:KEY`.

    Raises:
        FmstatsError: no such file or key, several arrays and no key, an array without samples, or a
            file that cannot be read.
    """
    match = _ARRAY_SPEC.fullmatch(spec)
    if match is None:
        raise FmstatsError(f"{spec!r} ends in none of {', '.join(ARRAY_SUFFIXES)}")
    path, key = Path(match["path"]).expanduser(), match["key"]
    if not path.is_file():
        raise FmstatsError(f"there is no file {str(path)!r}")
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            if key is not None:
                raise FmstatsError(f"{spec!r}: a .npy file holds one array and no keys")
            stored = _store_numpy(np.load(path, mmap_mode="r", allow_pickle=False))
        elif suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                stored = _store_numpy(archive[_choose_key(path, key, archive.files)])
        else:
            stored = _open_safetensors(path, key)
    except FmstatsError:
        raise
    except Exception as error:
        raise FmstatsError(f"{str(path)!r} cannot be read: {describe_error(error)}") from error
    if not stored.shape or not stored.shape[0]:
        raise FmstatsError(
            f"{spec!r} has the shape {stored.shape}: its first dimension must run along at least "
            "one sample"
        )
    return stored


def _store_numpy(array: np.ndarray) -> StoredArray:
    to_tensor(array[:0] if array.ndim else array)  # Refuse a dtype now rather than in batch 1.
    return StoredArray(array.shape, lambda start, stop: to_tensor(np.array(array[start:stop])))


def _open_safetensors(path: Path, key: str | None) -> StoredArray:
    from safetensors import safe_open

    file: Any = safe_open(path, framework="pt")
    tensor = file.get_slice(_choose_key(path, key, list(file.keys())))
    return StoredArray(tuple(tensor.get_shape()), lambda start, stop: tensor[start:stop])


def _choose_key(path: Path, key: str | None, keys: list[str]) -> str:
    if key is None and len(keys) == 1:
        return keys[0]
    if key is None:
        raise FmstatsError(
            f"{str(path)!r} holds {len(keys)} arrays ({name_some(keys, _KEYS_NAMED)}): choose one "
            f"with '{path}:KEY'"
        )
    if key not in keys:
        raise FmstatsError(
            f"{str(path)!r} has no array {key!r}; closest: {list_closest(key, keys)}"
        )
    return key
