"""`find_tensors` finds the tensors of a safetensors file by its header, and believes no number."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmstats.errors import FmstatsError

TYPES = {
    name: np.dtype(known)
    for name, known in (
        *(("I64", "<i8"), ("F64", "<f8")),
        *(("U8", "u1"), ("U16", "<u2"), ("U32", "<u4")),
    )
}
TYPE_NAMES = {dtype: name for name, dtype in TYPES.items()}


@dataclass(frozen=True)
class Wanted:
    """`Wanted` tells what a tensor of a file must be.

    Attributes:
        types: some of `TYPES`.
        length: how many numbers it has, in one dim; None: any.
        of: what they are of, for errors: "10 channels".
    """

    types: tuple[str, ...]
    length: int | None
    of: str


@dataclass(frozen=True)
class Place:
    """`Place` tells where a tensor lies: behind so many bytes of data, so many numbers."""

    begin: int
    length: int
    dtype: np.dtype[Any]

    @property
    def end(self) -> int:
        """Return where the next tensor begins."""
        return self.begin + self.length * self.dtype.itemsize


def find_tensors(
    header: Mapping[str, Any], wanted: Mapping[str, Wanted], size: int
) -> dict[str, Place]:
    """Find the tensors of a file in its `size` bytes of data, all of which are taken, none twice.

    Args:
        header: of each tensor an entry.
        wanted: what each must be.
        size: of the data.

    Returns:
        The places of tensors, in the order in which they lie.

    Raises:
        FmstatsError: a tensor is another than it must be, or the data are no such tensors.
    """
    places = {name: _find(name, entry, wanted[name]) for name, entry in header.items()}
    places = dict(sorted(places.items(), key=lambda found: (found[1].begin, found[1].end)))
    begins = [place.begin for place in places.values()]
    ends = [0, *(place.end for place in places.values())]
    if any(begin != end for begin, end in itertools.zip_longest(begins, ends, fillvalue=size)):
        raise FmstatsError(
            f"its data of {size:,} bytes is not the {len(places)} tensors that its header tells "
            "of: it is cut short or damaged"
        )
    return places


def _find(name: str, entry: object, wanted: Wanted) -> Place:
    known = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (known.get(key) for key in ("dtype", "shape", "data_offsets"))
    length: Any = shape[0] if isinstance(shape, list) and len(shape) == 1 else None
    sized = type(length) is int and length >= 0 and wanted.length in (None, length)
    if not sized or dtype not in wanted.types:
        raise FmstatsError(f"tensor {name!r} is not {' or '.join(wanted.types)} of {wanted.of}")
    if not (isinstance(offsets, list) and [type(offset) for offset in offsets] == [int, int]):
        raise FmstatsError(f"tensor {name!r} has no place in the file")
    place = Place(offsets[0], length, TYPES[dtype])
    if offsets[1] != place.end:
        raise FmstatsError(
            f"tensor {name!r} is not {place.length * place.dtype.itemsize:,} bytes long"
        )
    return place
