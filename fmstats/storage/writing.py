"""`encode` turns a stack into the bytes of a profile file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fmstats.errors import FmstatsError
from fmstats.profiles.metadata import DEEPEST, MOST_BITS, show_value
from fmstats.profiles.stacks import Stack
from fmstats.statistic.distribution import Array
from fmstats.statistic.fields import IDENTITY
from fmstats.storage import checksum
from fmstats.storage.checks import check_state
from fmstats.storage.histograms import pack_bins
from fmstats.storage.schema import (
    KEY,
    LARGEST_HEADER,
    WORD,
    choose_schema,
    describe_layer,
    describe_measures,
    fields_always,
    read_layers,
)
from fmstats.storage.tensors import TYPE_NAMES


def encode(stack: Stack, name: str) -> bytes:
    """Return the bytes of a profile file, which errors call `name`.

    Raises:
        FmstatsError: the metadata is not JSON, or too large, or `read_stack` would refuse it.
    """
    _check_json(stack.metadata, "metadata", name)
    state, measures = stack.state, stack.state.measures
    document = json.dumps(
        {
            "schema": choose_schema(stack.layers.values(), measures),
            **({"measures": describe_measures(measures)} if measures else {}),
            "layers": [describe_layer(name, layer) for name, layer in stack.layers.items()],
            "metadata": dict(stack.metadata),
        }
    )
    layers = read_layers(json.loads(document)["layers"], per_call=False)
    check_state(state, layers)  # now, not when it is read a month later
    # Its text is escaped once more inside the header.
    if len(json.dumps(document)) > LARGEST_HEADER - 10_000:
        raise FmstatsError(
            f"cannot write {name}: the metadata and names of layers are {len(document):,} bytes "
            f"of text; a header has at most {LARGEST_HEADER:,}"
        )
    rows = {field: state[field].numpy() for field in measures.fields}
    always = fields_always(measures)
    known = {f: row for f, row in rows.items() if f in always or (row != IDENTITY[f]).any()}
    if state.bins is not None:
        known |= pack_bins(state.bins.numpy())
    return _pack(known, document)


def _pack(tensors: Mapping[str, Array], document: str) -> bytes:
    """Pack these tensors, each of one dim, into a safetensors file with a checksum of it all."""
    # The checksum comes first: no other text is taken for it.
    header: dict[str, Any] = {"__metadata__": {checksum.KEY: checksum.BLANK, KEY: document}}
    # The widest numbers come first, so that each lies at a multiple of its size.
    rows = dict(sorted(tensors.items(), key=lambda item: -item[1].itemsize))
    begin = 0
    for name, row in rows.items():
        places = [begin, begin := begin + row.nbytes]
        dtype = TYPE_NAMES[row.dtype]
        header[name] = {"dtype": dtype, "shape": [row.size], "data_offsets": places}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % WORD)
    head = len(text).to_bytes(WORD, "little") + text
    found = checksum.checksum(head, rows.values())
    head = head.replace(checksum.BLANK.encode(), found.encode(), 1)
    return b"".join([head, *(row.data for row in rows.values())])


def _check_json(value: Any, where: str, name: str, depth: int = 0) -> None:
    """Refuse what would not come back as it is."""
    if depth > DEEPEST:
        raise FmstatsError(f"cannot write {name}: the metadata is nested {DEEPEST} deep and more")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise FmstatsError(f"cannot write {name}: {where} has the key {key!r}, no text")
            _check_json(inner, f"{where}[{key!r}]", name, depth + 1)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            _check_json(inner, f"{where}[{i}]", name, depth + 1)
    elif isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise FmstatsError(f"cannot write {name}: {where} is {show_value(value)}")
    elif not (value is None or isinstance(value, bool | int | float | str)):
        raise FmstatsError(
            f"cannot write {name}: {where} is of type {type(value).__name__}; give a number, a "
            "text, a list, a dict or None"
        )
