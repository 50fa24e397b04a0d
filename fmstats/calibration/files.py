"""Write and read scales and zero points, in files for any tool.

`.safetensors` has two tensors of each layer, `NAME.scale` (float32) and `NAME.zero_point` (int64),
and the rest as JSON in its metadata, under `fmstats.qparams`. `.json` has all in one document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from fmstats.calibration.layer import LayerQParams
from fmstats.calibration.schemes import SCHEMES
from fmstats.errors import FmstatsError
from fmstats.output.files import check_place, check_suffix, write_whole
from fmstats.statistic.distribution import Array

SUFFIXES = (".safetensors", ".json")
KEY = "fmstats.qparams"
_ARRAYS = {"scale": np.float32, "zero_point": np.int64}
_DERIVED = ("low", "high")


def check_output(path: Path) -> None:
    """Refuse a file that `save` could not write.

    Raises:
        FmstatsError: its suffix is none of `SUFFIXES`, or its folder is missing or closed.
    """
    check_suffix(path, SUFFIXES, "a file of scales")
    check_place(path)


def save(layers: Mapping[str, LayerQParams], settings: Mapping[str, Any], path: Path) -> None:
    """Write scales to a file, whole or not at all.

    Args:
        layers: by name.
        settings: what they are.
        path: of the file.

    Raises:
        FmstatsError: as `check_output`, or the disk refuses.
    """
    check_output(path)
    known: dict[str, Any] = describe(layers, settings)
    if path.suffix.lower() == ".json":
        write_whole(path, (json.dumps(known, allow_nan=False, indent=1) + "\n").encode())
        return
    tensors: dict[str, Array] = {}
    for name, layer in layers.items():
        for field in _ARRAYS:
            tensors[f"{name}.{field}"] = np.array(getattr(layer, field), order="C")
            del known["layers"][name][field]
        for field in _DERIVED:
            del known["layers"][name][field]
    write_whole(path, to_safetensors(tensors, {KEY: json.dumps(known)}))


def describe(layers: Mapping[str, LayerQParams], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return lists, numbers and strings: the settings, and `{"layers": {name: ...}}`."""
    return {**settings, "layers": {name: layer.to_dict() for name, layer in layers.items()}}


def load(path: Path) -> tuple[dict[str, LayerQParams], dict[str, Any]]:
    """Read scales and settings from a file.

    Raises:
        FmstatsError: it cannot be read, or `save` has not written it.
    """
    try:
        known, arrays = _read(path)
        layers = known.pop("layers")
        return {name: _layer(name, layers[name], arrays) for name in layers}, known
    except OSError as error:
        raise FmstatsError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FmstatsError(
            f"{str(path)!r} is no file of scales that QParams.save wrote ({error})"
        ) from error


def _read(path: Path) -> tuple[dict[str, Any], Mapping[str, Array]]:
    if path.suffix.lower() == ".json":
        return json.loads(path.read_bytes()), {}
    with safe_open(path, "numpy") as file:
        known = json.loads((file.metadata() or {})[KEY])
        return known, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _layer(name: str, known: Mapping[str, Any], arrays: Mapping[str, Array]) -> LayerQParams:
    plain: dict[str, Any] = {
        field: v for field, v in known.items() if field not in (*_ARRAYS, *_DERIVED)
    }
    found = {
        field: np.asarray(arrays[f"{name}.{field}"] if arrays else known[field], dtype)
        for field, dtype in _ARRAYS.items()
    }
    plain |= {**found, "neutral": tuple(plain["neutral"])}
    layer = LayerQParams(**plain)
    if layer.scheme not in SCHEMES:
        raise ValueError(f"unknown scheme {layer.scheme!r}")
    return layer
