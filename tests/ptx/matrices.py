"""Matrices of 8 x 8 numbers of 16 bits, that a warp moves between shared memory and registers.

Lanes 8k to 8k+7 give the addresses of the rows of matrix k. Of every matrix, lane i holds two
neighbours of row i / 4; transposed, of column i / 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .access import Access
from .datatypes import WARP, Array, Lanes
from .operands import Binder
from .registry import rule
from .warp import together

if TYPE_CHECKING:
    from .chunk import Chunk
    from .program import End

_FORM = "sync aligned m8n8 x1 x2 x4 trans shared shared::cta"
_ROW_BYTES = 16


def _move(binder: Binder, registers: str, address: str) -> End:
    names = binder.vector(registers)
    count = int(binder.instruction.one_of("x1", "x2", "x4")[1:])
    if len(names) != count:
        raise binder.instruction.unsupported(f"{len(names)} registers for {count} matrices")
    is_load, is_transposed = binder.name == "ldmatrix", binder.has("trans")
    access = Access(binder, "b16", 1)
    access.is_load, access.is_store = is_load, not is_load
    read_address = binder.address(address)
    writers = [binder.writer(name) for name in names] if is_load else []
    readers = [] if is_load else [binder.bits(name, 32) for name in names]

    def run(chunk: Chunk, lanes: Lanes) -> None:
        rows = chunk.spread(read_address(chunk, None), None)
        here = chunk.lanes(lanes)
        for k in range(count):
            halves = [element(chunk, rows, here, k, half) for half in (0, 1)]
            if is_load:
                words = halves[0].astype(np.uint32) | halves[1].astype(np.uint32) << np.uint32(16)
                writers[k](chunk, lanes, words)

    def element(chunk: Chunk, rows: Array, here: Array, k: int, half: int) -> Array:
        lane = here % WARP
        row, column = lane // 4, 2 * (lane % 4) + half
        if is_transposed:
            row, column = column, row
        starts = rows[here - lane + 8 * k + row]
        is_misaligned = starts % _ROW_BYTES != 0
        if is_misaligned.any():
            at = here[int(np.argmax(is_misaligned))]
            raise chunk.fault(binder.instruction, "misaligned row of a matrix", at)
        (piece,) = access.pieces(chunk, starts + 2 * column, here)
        if is_load:
            return piece.elements[piece.first]
        words = chunk.spread(readers[k](chunk, here), here)
        values = (words >> np.uint32(16 * half)).astype(np.uint16)
        access.put(chunk, piece, here, [values])
        return values

    return together(binder, "0xffffffff", run)


@rule("ldmatrix", ["b16"], _FORM, ends_block=True)
def load_matrix(binder: Binder) -> End:
    """Read matrices from shared memory."""
    return _move(binder, binder.operands[0], binder.operands[1])


@rule("stmatrix", ["b16"], _FORM, ends_block=True)
def store_matrix(binder: Binder) -> End:
    """Write matrices to shared memory."""
    return _move(binder, binder.operands[1], binder.operands[0])
