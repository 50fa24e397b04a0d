"""What a profile file holds beside numbers: the layers, to JSON and back."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fmstats.errors import FmstatsError
from fmstats.merging import StackedLayer
from fmstats.statistic import COUNTS, FIELDS, MOMENTS, Thresholds

# Raised by a change that older readers would get wrong. 2: the file has a checksum.
SCHEMA = 2
CHECKED_SINCE = 2
KEY = "fmstats"  # of the one text among the safetensors metadata
ALWAYS = ("count", *MOMENTS)  # fields that are written even if they are 0 everywhere
DTYPES = {field: "I64" if field in COUNTS else "F64" for field in FIELDS}
WORD = 8  # bytes
LARGEST_HEADER = 100_000_000  # bytes; the safetensors library reads no larger one

_TEXTS = ("type", "dtype", "backend")
_MOST = 2**63 - 1

_thresholds = lru_cache(maxsize=256)(Thresholds)  # most layers of a thousand files share theirs


def describe_layer(name: str, layer: StackedLayer) -> dict[str, Any]:
    """A layer as JSON has it."""
    limits = layer.thresholds
    known = {**vars(layer), "name": name, "shape": list(layer.shape)}
    return known | {"thresholds": [limits.zero_tol, limits.low, limits.high]}


def read_layers(found: object) -> dict[str, StackedLayer]:
    """The layers that `describe_layer` has described.

    Raises:
        FmstatsError: a value is missing or of the wrong kind.
    """
    if not isinstance(found, list):
        raise FmstatsError("its layers are no list")
    layers: dict[str, StackedLayer] = {}
    for number, entry in enumerate(found):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise FmstatsError(f"layer {number} has no name")
        if name in layers:
            raise FmstatsError(f"there are two layers {name!r}")
        try:
            layers[name] = _read_layer(entry)
        except FmstatsError as error:
            raise FmstatsError(f"layer {name!r}: {error}") from error
    return layers


def _read_layer(entry: dict[str, Any]) -> StackedLayer:
    for key in _TEXTS:
        if not isinstance(entry.get(key), str):
            raise FmstatsError(f"{key!r} must be a text, not {_shown(entry.get(key))}")
    shape = entry.get("shape")
    if not (isinstance(shape, list) and all(map(_is_count, shape))):
        raise FmstatsError(f"'shape' must be a list of sizes, not {_shown(shape)}")
    for key in ("calls", "channels"):
        if not _is_count(entry.get(key)):
            raise FmstatsError(f"{key!r} must be a count, not {_shown(entry.get(key))}")
    dim = entry.get("channel_dim")
    if type(dim) is not int or not 0 <= dim < max(len(shape), 1):
        raise FmstatsError(f"'channel_dim' must be a dim of {shape}, not {_shown(dim)}")
    return StackedLayer(
        type=entry["type"],
        channel_dim=dim,
        shape=tuple(shape),
        dtype=entry["dtype"],
        calls=entry["calls"],
        backend=entry["backend"],
        channels=entry["channels"],
        thresholds=_read_thresholds(entry.get("thresholds")),
    )


def _read_thresholds(found: object) -> Thresholds:
    if not (isinstance(found, list) and len(found) == 3):
        raise FmstatsError(f"'thresholds' must be [zero_tol, low, high], not {_shown(found)}")
    for value in found:
        if type(value) not in (int, float, type(None)):
            raise FmstatsError(f"'thresholds' must be numbers, not {_shown(value)}")
    try:
        return _thresholds(*found)
    except OverflowError as error:
        raise FmstatsError(f"'thresholds': {error}") from error


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
