"""Loads and stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .access import Access
from .datatypes import SCALARS, WIDTH, Execute, Lanes, unsigned
from .operands import Binder
from .registry import rule

if TYPE_CHECKING:
    from .chunk import Chunk

VECTORS = {"v2": 2, "v4": 4, "v8": 8}
_SPACES = "global shared shared::cta local param param::entry param::func const"
# Hints to caches change no value; orders and scopes matter only to what other blocks see.
_HINTS = (
    "ca cg cs cv lu nc wb wt volatile relaxed weak mmio cta cluster gpu sys"
    " L1::evict_normal L1::evict_unchanged L1::evict_first L1::evict_last L1::no_allocate"
    " L2::evict_normal L2::evict_first L2::evict_last L2::64B L2::128B L2::256B L2::cache_hint"
)


def vector_of(binder: Binder, operand: str) -> list[str]:
    """Give the registers of a load or store: as many as it says that a lane moves."""
    names = binder.vector(operand)
    count = VECTORS.get(binder.instruction.one_of(*VECTORS), 1)
    if len(names) != count:
        raise binder.instruction.unsupported(f"{len(names)} registers for {count} elements")
    return names


@rule("ld", SCALARS, f"{_SPACES} {_HINTS} acquire v2 v4 v8")
@rule("ldu", SCALARS, f"{_SPACES} v2 v4")
def load(binder: Binder) -> Execute:
    """Read neighbouring elements of memory into registers."""
    names = vector_of(binder, binder.operands[0])
    access = Access(binder, binder.type, len(names))
    read_address = binder.address(binder.operands[1])
    writers = [binder.writer(name) for name in names]
    variable = binder.address_symbol(binder.operands[1])
    if access.space == "param" and variable is not None and variable.space == "local":
        access.space = "local"
    is_constant = access.space == "param" and variable is not None
    number = unsigned(WIDTH[binder.type])

    def run(chunk: Chunk, lanes: Lanes) -> None:
        addresses = read_address(chunk, lanes)
        if is_constant:
            # One value for all lanes.
            pieces = list(access.pieces(chunk, addresses, chunk.lanes(lanes)[:1]))
        else:
            addresses = chunk.spread(addresses, lanes)
            pieces = list(access.pieces(chunk, addresses, chunk.lanes(lanes)))
        for k, write in enumerate(writers):
            if len(pieces) == 1:
                values = pieces[0].elements[pieces[0].first + k]
            else:
                values = np.empty(len(addresses), number)
                for piece in pieces:
                    values[piece.chosen] = piece.elements[piece.first + k]
            write(chunk, lanes, values)

    return run


@rule("st", SCALARS, f"{_SPACES} {_HINTS} release v2 v4 v8")
def store(binder: Binder) -> Execute:
    """Write registers to neighbouring elements of memory."""
    names = vector_of(binder, binder.operands[1])
    access = Access(binder, binder.type, len(names))
    read_address = binder.address(binder.operands[0])
    readers = [binder.bits(name, WIDTH[binder.type]) for name in names]
    if access.space == "param":
        access.space = "local"  # kernels cannot store to their own
    is_release = binder.has("release") and bool(binder.instruction.one_of("gpu", "sys"))

    def run(chunk: Chunk, lanes: Lanes) -> None:
        if is_release:
            chunk.context.watch.fence(chunk, lanes)
        addresses = chunk.spread(read_address(chunk, lanes), lanes)
        for piece in access.pieces(chunk, addresses, chunk.lanes(lanes)):
            values = [read(chunk, lanes) for read in readers]
            if piece.chosen is not None:
                values = [v[piece.chosen] if len(v) > 1 else v for v in values]
            access.put(chunk, piece, chunk.lanes(lanes), values)

    return run
