"""The schema tells what a profile file holds beside numbers: the layers, to JSON and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from fmstats.errors import FmstatsError
from fmstats.profiles.layer_profile import OtherDims
from fmstats.profiles.row_names import RowKey, read_name
from fmstats.profiles.stacks import StackedLayer
from fmstats.statistic.bins import Bins
from fmstats.statistic.measures import ALWAYS, HISTOGRAM, Measures
from fmstats.statistic.thresholds import Thresholds
from fmstats.storage.histograms import COUNT_TYPES, COUNTS, PLACE_TYPE, PLACES, SIZES
from fmstats.storage.tensors import Wanted

# Raised by a change that older readers would get wrong. 2: the file has a checksum. 3: it may tell
# when an element first was no finite number. 4: it has rows of groups, which older readers refuse.
# 5: it has measures on request.
SCHEMA = 5
WITHOUT_MEASURES = 4
WITHOUT_GROUPS = 3
CHECKED_SINCE = 2
KEY = "fmstats"  # of the one text among the safetensors metadata
WORD = 8  # bytes
LARGEST_HEADER = 100_000_000  # bytes; the safetensors library reads no larger one
MOST_DIMS = 64  # of a tensor

_TEXTS = ("type", "dtype", "backend")
_MOST = 2**63 - 1

_thresholds = lru_cache(maxsize=256)(Thresholds)  # most layers of a thousand files share theirs


def choose_schema(layers: Iterable[StackedLayer], measures: Measures) -> int:
    """Return the oldest schema that has all that a profile has."""
    if measures:
        return SCHEMA
    grouped = any(row.group is not None for row in layers)
    return WITHOUT_MEASURES if grouped else WITHOUT_GROUPS


def fields_always(measures: Measures) -> tuple[str, ...]:
    """Return the fields that are written even if they are of no data everywhere."""
    return ("count", *(field for field in measures.fields if field in measures.reals))


def tensors_of(measures: Measures, layers: Iterable[StackedLayer]) -> dict[str, Wanted]:
    """Return all tensors that the file of a profile can have, and what each is."""
    widths = [layer.channels for layer in layers]
    channels = sum(widths)
    wanted = {
        field: Wanted(
            ("F64" if field in measures.reals else "I64",), channels, f"{channels} channels"
        )
        for field in measures.fields
    }
    if measures.bins is None:
        return wanted
    histograms = sum(map(measures.bins.rows, widths))
    return wanted | {
        SIZES: Wanted((PLACE_TYPE,), histograms, f"{histograms} histograms"),
        PLACES: Wanted((PLACE_TYPE,), None, "bins"),
        COUNTS: Wanted(COUNT_TYPES, None, "bins"),
    }


def describe_measures(measures: Measures) -> dict[str, Any]:
    """Return measures as JSON has them."""
    bins = measures.bins
    known = {} if bins is None else {"histogram": bins.scope, "resolution": bins.resolution}
    return {"measure": list(measures.names), **known}


def read_measures(found: object) -> Measures:
    """Read what `describe_measures` has described; None: there are none.

    Raises:
        FmstatsError: there are no such measures.
    """
    if found is None:
        return ALWAYS
    known: dict[str, Any] = found if isinstance(found, dict) else {}
    names = known.get("measure")
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise FmstatsError(f"'measures' must name what was measured, not {_shown(found)}")
    asked = HISTOGRAM in names
    return Measures.of(names, _read_bins(known) if asked else None)


def _read_bins(known: dict[str, Any]) -> Bins:
    scope: Any = known.get("histogram")
    resolution: Any = known.get("resolution")
    return Bins(scope, resolution)


def describe_layer(name: str, layer: StackedLayer) -> dict[str, Any]:
    """Return a layer as JSON has it."""
    limits = layer.thresholds
    known = {**vars(layer), "name": name, "shape": list(layer.shape)}
    for field, usual in (("unmasked", 0), ("group", None)):  # as those before schema 4
        if known[field] == usual:
            del known[field]
    return known | {"thresholds": [limits.zero_tol, limits.low, limits.high]}


def read_layers(found: object, per_call: bool) -> dict[str, StackedLayer]:
    """Read the rows that `describe_layer` has described.

    Args:
        found: what the file has.
        per_call: whether it has a row for each call.

    Raises:
        FmstatsError: a value is missing or of the wrong kind, or two rows are of the same.
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
            layers[name] = _read_layer(name, entry, per_call)
        except FmstatsError as error:
            raise FmstatsError(f"layer {name!r}: {error}") from error
    if len({row.key for row in layers.values()}) < len(layers):
        twice, _ = Counter(row.key for row in layers.values()).most_common(1)[0]
        raise FmstatsError(f"there are two rows of layer {twice.layer!r} of one width")
    return layers


def _read_layer(name: str, entry: dict[str, Any], per_call: bool) -> StackedLayer:
    for key in _TEXTS:
        if not isinstance(entry.get(key), str):
            raise FmstatsError(f"{key!r} must be a text, not {_shown(entry.get(key))}")
    shape = entry.get("shape")
    if not (isinstance(shape, list) and all(map(_is_count, shape))):
        raise FmstatsError(f"'shape' must be a list of sizes, not {_shown(shape)}")
    for key in ("calls", "channels", "unmasked"):
        if not _is_count(entry.get(key, 0 if key == "unmasked" else None)):
            raise FmstatsError(f"{key!r} must be a count, not {_shown(entry.get(key))}")
    dim = entry.get("channel_dim")
    if not _is_dim(dim, max(len(shape), 1)):
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
        **_read_key(name, entry, per_call),
        other_dims=_read_dims(entry.get("other_dims", []), len(shape)),
        unmasked=entry.get("unmasked", 0),
    )


def _read_key(name: str, entry: dict[str, Any], per_call: bool) -> dict[str, Any]:
    """Read the layer and the call of a row; fmstats 0.1 told them by its name alone."""
    if "layer" not in entry:
        layer, call = read_name(name, per_call)
        return {"layer": layer, "call": call}
    layer, call, group = entry["layer"], entry.get("call"), entry.get("group")
    if not isinstance(layer, str) or not (call is None or _is_count(call)):
        raise FmstatsError(f"'layer' and 'call' must be a text and a count, not {_shown(call)}")
    if not (group is None or isinstance(group, str)):
        raise FmstatsError(f"'group' must be a text, not {_shown(group)}")
    key = RowKey(layer, call, entry["channels"], group)
    if name not in (key.base, key.full):
        raise FmstatsError(f"it cannot be a row of layer {layer!r}, call {call}, {key.width} wide")
    return {"layer": layer, "call": call, "group": group}


def _is_dim(found: object, count: int) -> bool:
    """Tell whether it is a dim of so many; None says that all of a tensor is one channel."""
    return found is None or (type(found) is int and 0 <= found < count)


def _read_dims(found: object, but: int) -> OtherDims:
    """Read the channel dims of tensors of other numbers of dims than `but`."""
    if not isinstance(found, list):
        raise FmstatsError(f"'other_dims' must be a list, not {_shown(found)}")
    dims = {}
    for pair in found:
        if not (isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is int):
            raise FmstatsError(f"'other_dims' must be pairs of numbers, not {_shown(pair)}")
        number, dim = pair
        known = number == but or number in dims
        if known or not 0 < number <= MOST_DIMS or not _is_dim(dim, number):
            raise FmstatsError(f"'other_dims' has no sense: {_shown(found)}")
        dims[number] = dim
    return tuple(sorted(dims.items()))


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
