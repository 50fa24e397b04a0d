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
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from fmstats.errors import FmstatsError
from fmstats.profiles.stacks import Stack
from fmstats.statistic.channel_stats import Array
from fmstats.statistic.fields import FIELDS, FIRSTS, NEVER
from fmstats.statistic.state import State
from fmstats.storage import checksum
from fmstats.storage.checks import check_words
from fmstats.storage.schema import (
    ALWAYS,
    CHECKED_SINCE,
    DTYPES,
    KEY,
    LARGEST_HEADER,
    SCHEMA,
    WORD,
    read_layers,
)


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
    channels = sum(layer.channels for layer in layers.values())
    places = _find_rows(header, channels, size - len(head))
    words = _read_words(file, len(head), places, channels)
    found = texts.get(checksum.KEY)
    if found is not None or schema >= CHECKED_SINCE:
        _check(
            found, head, [words[FIELDS.index(f)] for f in sorted(places, key=places.__getitem__)]
        )
    check_words(words, layers)
    return Stack(layers, State(torch.from_numpy(words)), metadata)


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


def _find_rows(header: dict[str, Any], channels: int, size: int) -> dict[str, int]:
    """Find where each field's row begins in the `size` bytes of data, all taken, none twice."""
    if not set(ALWAYS) <= set(header) <= set(FIELDS):
        raise FmstatsError(f"its tensors are not the fields {', '.join(FIELDS)}")
    length = channels * WORD
    begins = {}
    for field, entry in header.items():
        want = {"dtype": DTYPES[field], "shape": [channels]}
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if offsets is None or {key: entry.get(key) for key in want} != want:
            raise FmstatsError(f"tensor {field!r} is not {want['dtype']} of {channels} channels")
        if not (isinstance(offsets, list) and [type(o) for o in offsets] == [int, int]):
            raise FmstatsError(f"tensor {field!r} has no place in the file")
        if offsets[1] - offsets[0] != length:
            raise FmstatsError(f"tensor {field!r} is not {length:,} bytes long")
        begins[field] = offsets[0]
    rows = len(begins)
    if size != length * rows or sorted(begins.values()) != [length * i for i in range(rows)]:
        raise FmstatsError(
            f"its data of {size:,} bytes is not {rows} rows of {channels:,} channels: it is cut "
            "short or damaged"
        )
    return begins


def _read_words(file: IO[bytes], start: int, begins: dict[str, int], channels: int) -> Array:
    words = np.zeros((len(FIELDS), channels), np.dtype("<i8"))
    for field in FIRSTS:
        words[FIELDS.index(field)] = NEVER
    for field, begin in begins.items():
        row = words[FIELDS.index(field)]
        file.seek(start + begin)
        if file.readinto(row.data) != row.nbytes:  # type: ignore[attr-defined]
            raise FmstatsError("it became shorter while it was read")
    return words
