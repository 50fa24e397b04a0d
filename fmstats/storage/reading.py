"""`read_stack` reads a profile file, and checks everything on the way.

The safetensors format is read here, not by `safetensors.safe_open`, for three reasons. That one
maps the file into memory, so a file that is cut short meanwhile, on a network's disk say, ends the
process by SIGBUS (seen with safetensors 0.8.0) where this says that it became shorter. It shows no
bytes of the header, over which the checksum goes, too. And it opens a path alone, while its
`deserialize` for bytes gives no metadata. No length is believed before it has been compared with
the file's size.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from fmstats.errors import FmstatsError
from fmstats.profiles.stacks import Stack, StackedLayer
from fmstats.statistic.distribution import Array
from fmstats.statistic.fields import FIRSTS, NEVER
from fmstats.statistic.measures import Measures
from fmstats.statistic.room import check_room
from fmstats.statistic.state import State
from fmstats.storage import checksum
from fmstats.storage.checks import check_state
from fmstats.storage.histograms import COUNTS, PLACES, SIZES, unpack_bins
from fmstats.storage.schema import (
    CHECKED_SINCE,
    KEY,
    LARGEST_HEADER,
    SCHEMA,
    WORD,
    fields_always,
    read_layers,
    read_measures,
    tensors_of,
)
from fmstats.storage.tensors import Place, find_tensors


def read_stack(path: str | Path) -> Stack:
    """Return the profile in a file, as a stack.

    Raises:
        FmstatsError: see `fmstats.storage.load`.
    """
    file = Path(path)
    with _naming(f"profile {str(path)!r}"):
        if not file.is_file():  # a pipe or a device could keep us waiting for ever
            what = "it is no file" if file.exists() else "there is no such file"
            raise FmstatsError(what)
        with file.open("rb") as opened:
            return _read(opened, file.stat().st_size)


def decode(content: bytes) -> Stack:
    """The profile in the content of a file, as a stack.

    Raises:
        FmstatsError: as `read_stack`.
    """
    with _naming("a profile from bytes"):
        return _read(io.BytesIO(content), len(content))


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    """Say what could not be read."""
    try:
        yield
    except (OSError, MemoryError, FmstatsError) as error:
        reason = str(error) or "there is not enough memory"
        raise FmstatsError(f"cannot read {what}: {reason}") from error


def _read(file: IO[bytes], size: int) -> Stack:
    head = _read_head(file, size)
    header = _parse(head[WORD:])
    texts = header.pop("__metadata__", None)
    if not (isinstance(texts, dict) and isinstance(texts.get(KEY), str)):
        raise FmstatsError("it is a safetensors file, but no profile: fmstats has not written it")
    document = _parse(texts[KEY])
    schema = document.get("schema")
    if type(schema) is not int or schema < 1:
        raise FmstatsError(f"its schema version is {schema!r}, not a number from 1")
    if schema > SCHEMA:
        raise FmstatsError(
            f"written by a newer fmstats: its schema is {schema}, this one reads up to {SCHEMA}; "
            "update fmstats"
        )
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        raise FmstatsError("its metadata is no JSON object")
    layers = read_layers(document.get("layers"), metadata.get("per_call") is True)
    measures = read_measures(document.get("measures"))
    places = _find_tensors(header, measures, layers, size - len(head))
    words, tensors = _read_tensors(file, len(head), places, measures)
    found = texts.get(checksum.KEY)
    if found is not None or schema >= CHECKED_SINCE:
        _check(found, head, list(tensors.values()))
    bins = None
    if measures.bins is not None:
        check_room(measures.bins, len(tensors[SIZES]), torch.device("cpu"))
        bins = torch.from_numpy(unpack_bins(tensors, measures.bins.words))
    state = State(torch.from_numpy(words), measures=measures, bins=bins)
    check_state(state, layers)
    return Stack(layers, state, metadata)


def _read_head(file: IO[bytes], size: int) -> bytes:
    """Read what stands before the data: the length of the header, and the header."""
    begin = file.read(WORD)
    length = int.from_bytes(begin, "little")
    if size < WORD or length > min(size - WORD, LARGEST_HEADER):
        hint = "it is no .fmstats profile"
        file.seek(0)
        if file.read(WORD).lstrip().startswith(b"{"):
            hint += ", but JSON: show, merge and others read what --out FILE.fmstats has written"
        raise FmstatsError(f"{hint}, or cut short: {size:,} bytes do not hold its header")
    text = file.read(length)
    if len(text) != length:
        raise FmstatsError("it became shorter while it was read")
    return begin + text


def _check(found: object, head: bytes, rows: list[Array]) -> None:
    if not isinstance(found, str) or len(found) != len(checksum.BLANK):
        raise FmstatsError("it is damaged: it has no checksum")
    if checksum.checksum(checksum.blank(head, found), rows) != found:
        raise FmstatsError("it is damaged: what is in it does not fit its checksum")


def _parse(text: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FmstatsError(f"it is no profile, or damaged: {error}") from error
    if not isinstance(found, dict):
        raise FmstatsError("it is no profile, or damaged: its header is no JSON object")
    return found


def _find_tensors(
    header: dict[str, Any], measures: Measures, layers: Mapping[str, StackedLayer], size: int
) -> dict[str, Place]:
    """Find where each tensor lies in the `size` bytes of data."""
    histograms = set() if measures.bins is None else {SIZES, PLACES, COUNTS}
    if (
        not {*fields_always(measures), *histograms}
        <= set(header)
        <= {*measures.fields, *histograms}
    ):
        names = [*measures.fields, *sorted(histograms)]
        raise FmstatsError(f"its tensors are not the fields {', '.join(names)}")
    return find_tensors(header, tensors_of(measures, layers.values()), size)


def _read_tensors(
    file: IO[bytes], start: int, places: Mapping[str, Place], measures: Measures
) -> tuple[Array, dict[str, Array]]:
    """Read the tensors that lie behind `start`; fields are rows of the words that are returned."""
    words = np.zeros((len(measures.fields), places["count"].length), np.dtype("<i8"))
    for field in FIRSTS:
        words[measures.places[field]] = NEVER
    tensors = {}
    for name, place in places.items():
        if name in measures.places:
            tensor = words[measures.places[name]].view(place.dtype)
        else:
            tensor = np.empty(place.length, place.dtype)
        file.seek(start + place.begin)
        if file.readinto(tensor.data) != tensor.nbytes:  # type: ignore[attr-defined]
            raise FmstatsError("it became shorter while it was read")
        tensors[name] = tensor
    return words, tensors
