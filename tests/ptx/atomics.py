"""Atomics, one lane after the other in the order of lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .access import Access, Piece
from .datatypes import FLOATS, WIDTH, Array, Execute, Lanes, integer_of, unsigned
from .floats import canonical
from .operands import Binder
from .registry import rule

if TYPE_CHECKING:
    from .chunk import Chunk

_ORDERS = "global shared shared::cta relaxed acquire release acq_rel cta gpu sys"
_OPERATIONS = "add min max inc dec exch cas and or xor"
_TYPES = ("u32", "s32", "u64", "s64", "b32", "b64", "f32", "f64")

# Each takes what is there and what the lane brings.
Combine = Callable[[Array, Array], Array]
_COMBINE: dict[str, Combine] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": lambda there, brought: brought,
    "inc": lambda there, brought: np.where(there >= brought, 0, there + 1).astype(there.dtype),
    "dec": lambda there, brought: np.where(
        (there == 0) | (there > brought), brought, there - 1
    ).astype(there.dtype),
}


@rule("atom red", _TYPES, f"{_ORDERS} {_OPERATIONS}")
def atomic(binder: Binder) -> Execute:
    """Change memory and give what was there; `red` gives nothing."""
    operation = binder.instruction.one_of(*_OPERATIONS.split())
    if binder.type in FLOATS and operation not in ("add", "exch"):
        raise binder.instruction.unsupported()
    access = Access(binder, binder.type, 1)
    operands = list(binder.operands)
    write = binder.writer(operands.pop(0)) if binder.name == "atom" else None
    read_address = binder.address(operands[0])
    readers = [binder.bits(operand, WIDTH[binder.type]) for operand in operands[1:]]
    number = np.dtype(binder.type.replace("f", "float") if binder.type in FLOATS else "u1")
    if binder.type not in FLOATS:
        number = np.dtype(integer_of(binder.type))
    is_release = bool(binder.instruction.one_of("release", "acq_rel")) and not binder.has("cta")

    def run(chunk: Chunk, lanes: Lanes) -> None:
        if is_release:
            chunk.context.watch.fence(chunk, lanes)
        if access.space != "shared":
            chunk.context.watch.tell(chunk, chunk.lanes(lanes))
        addresses = chunk.spread(read_address(chunk, lanes), lanes)
        brought = [chunk.spread(read(chunk, lanes), lanes) for read in readers]
        before = np.empty(len(addresses), unsigned(WIDTH[binder.type]))
        for piece in access.pieces(chunk, addresses, chunk.lanes(lanes)):
            at: Array | slice = slice(None) if piece.chosen is None else piece.chosen
            before[at] = _in_turn(operation, number, piece, [values[at] for values in brought])
        if write is not None:
            write(chunk, lanes, before)

    return run


def _in_turn(operation: str, number: np.dtype, piece: Piece, brought: list[Array]) -> Array:
    """Let the lanes of one address have their turns; different addresses go side by side."""
    order = np.argsort(piece.first, kind="stable")
    addresses = piece.first[order]
    is_new = np.concatenate([[True], addresses[1:] != addresses[:-1]])
    begins = np.maximum.accumulate(np.where(is_new, np.arange(len(addresses)), 0))
    turn = np.arange(len(addresses)) - begins
    before = np.empty(len(addresses), piece.elements.dtype)
    for k in range(int(turn.max()) + 1):
        lanes = order[turn == k]
        at = piece.first[lanes]
        there = piece.elements[at]
        before[lanes] = there
        values = brought[-1][lanes]
        if operation == "cas":
            changed = np.where(there == brought[0][lanes], values, there)
        else:
            changed = _COMBINE[operation](there.view(number), values.view(number))
            if number == np.float32 and operation == "add":
                changed = canonical(changed)
        piece.elements[at] = changed.view(piece.elements.dtype)
    return before
