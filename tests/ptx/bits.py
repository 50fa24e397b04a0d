"""Logic, shifts, and fields of bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .datatypes import SIGNED, WIDTH, Array, Execute, Lanes, integer_of, unsigned
from .operands import Binder
from .registry import rule
from .syntax import parse_literal

if TYPE_CHECKING:
    from .chunk import Chunk

_BITS = ("b16", "b32", "b64")
_LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


@rule("and or xor", ["pred"])
def combine_predicates(binder: Binder) -> Execute:
    """Combine two predicates."""
    combine, write = _LOGIC[binder.name], binder.writer(binder.operands[0])
    left, right = (binder.predicate(operand) for operand in binder.operands[1:])
    return lambda chunk, lanes: write(
        chunk, lanes, combine(left(chunk, lanes), right(chunk, lanes))
    )


@rule("and or xor", _BITS)
def combine_bits(binder: Binder) -> Execute:
    """Combine bit by bit."""
    combine, write = _LOGIC[binder.name], binder.writer(binder.operands[0])
    left, right = binder.values(*binder.operands[1:])
    return lambda chunk, lanes: write(
        chunk, lanes, combine(left(chunk, lanes), right(chunk, lanes))
    )


@rule("not", ["pred", *_BITS])
def invert(binder: Binder) -> Execute:
    """Invert every bit."""
    write, operand = binder.writer(binder.operands[0]), binder.operands[1]
    is_predicate = binder.type == "pred"
    read = binder.predicate(operand) if is_predicate else binder.value(operand, binder.type)
    return lambda chunk, lanes: write(chunk, lanes, ~read(chunk, lanes))


@rule("cnot", _BITS)
def is_zero(binder: Binder) -> Execute:
    """Give one for zero, and zero for all else."""
    write, read = binder.writer(binder.operands[0]), binder.value(binder.operands[1], binder.type)
    number = unsigned(WIDTH[binder.type])
    return lambda chunk, lanes: write(chunk, lanes, (read(chunk, lanes) == 0).astype(number))


@rule("shl", _BITS)
@rule("shr", [*_BITS, "u16", "u32", "u64", "s16", "s32", "s64"])
def shift(binder: Binder) -> Execute:
    """Shift; by the width or more, nothing but the sign stays."""
    width, number = WIDTH[binder.type], np.dtype(integer_of(binder.type))
    write, read = binder.writer(binder.operands[0]), binder.value(binder.operands[1], binder.type)
    read_by = binder.bits(binder.operands[2], 32)
    move = np.left_shift if binder.name == "shl" else np.right_shift
    keeps_sign = binder.type in SIGNED

    def run(chunk: Chunk, lanes: Lanes) -> None:
        by = read_by(chunk, lanes)
        moved = move(read(chunk, lanes), np.minimum(by, width - 1).astype(number))
        if not keeps_sign and (by >= width).any():
            moved = np.where(by >= width, number.type(0), moved)
        write(chunk, lanes, moved)

    return run


@rule("shf", ["b32"], "l r clamp wrap")
def funnel_shift(binder: Binder) -> Execute:
    """Shift 64 bits out of two registers and give the upper (l) or the lower (r) half."""
    write = binder.writer(binder.operands[0])
    readers = [binder.bits(operand, 32) for operand in binder.operands[1:]]
    is_left, clamps = binder.has("l"), binder.has("clamp")

    def run(chunk: Chunk, lanes: Lanes) -> None:
        lower, upper, by = (read(chunk, lanes).astype(np.uint64) for read in readers)
        both = (upper << np.uint64(32)) | lower
        by = np.minimum(by, np.uint64(32)) if clamps else by & np.uint64(31)
        moved = (both << by) >> np.uint64(32) if is_left else both >> by
        write(chunk, lanes, moved.astype(np.uint32))

    return run


def _field_mask(length: Array) -> Array:
    """Give so many low bits set, up to 64 of them."""
    ones = ~np.uint64(0)
    kept = np.uint64(64) - np.clip(length, np.uint64(1), np.uint64(64))
    return np.where(length == 0, np.uint64(0), ones >> kept)


def _shift_64(values: Array, by: Array, is_left: bool) -> Array:
    move = np.left_shift if is_left else np.right_shift
    return np.where(by > 63, np.uint64(0), move(values, np.minimum(by, np.uint64(63))))


@rule("bfe", ["u32", "u64", "s32", "s64"])
def extract_field(binder: Binder) -> Execute:
    """Take a field of bits; a signed one is filled up with its highest bit."""
    width = WIDTH[binder.type]
    write, read = binder.writer(binder.operands[0]), binder.bits(binder.operands[1], width)
    read_place, read_length = (binder.bits(operand, 32) for operand in binder.operands[2:])
    is_signed = binder.type in SIGNED

    def run(chunk: Chunk, lanes: Lanes) -> None:
        values = read(chunk, lanes).astype(np.uint64)
        place, length = (
            (reader(chunk, lanes) & np.uint32(0xFF)).astype(np.uint64)
            for reader in (read_place, read_length)
        )
        mask = _field_mask(length)
        field = _shift_64(values, place, is_left=False) & mask
        if is_signed:
            top = np.minimum(place + np.maximum(length, 1) - np.uint64(1), np.uint64(width - 1))
            is_negative = (values >> top) & np.uint64(1) & (length > 0)
            inside = np.maximum(np.int64(width) - place.astype(np.int64), 0).astype(np.uint64)
            filled = field | ~(mask & _field_mask(inside))
            field = np.where(is_negative != 0, filled, field)
        write(chunk, lanes, field.astype(unsigned(width)).view(integer_of(binder.type)))

    return run


@rule("bfi", ["b32", "b64"])
def insert_field(binder: Binder) -> Execute:
    """Put the low bits of one register into a field of another."""
    width = WIDTH[binder.type]
    write = binder.writer(binder.operands[0])
    read_field, read_into = (binder.bits(operand, width) for operand in binder.operands[1:3])
    read_place, read_length = (binder.bits(operand, 32) for operand in binder.operands[3:])

    def run(chunk: Chunk, lanes: Lanes) -> None:
        field = read_field(chunk, lanes).astype(np.uint64)
        into = read_into(chunk, lanes).astype(np.uint64)
        place, length = (
            (reader(chunk, lanes) & np.uint32(0xFF)).astype(np.uint64)
            for reader in (read_place, read_length)
        )
        mask = _shift_64(_field_mask(length), place, is_left=True)
        moved = _shift_64(field, place, is_left=True)
        write(chunk, lanes, ((into & ~mask) | (moved & mask)).astype(unsigned(width)))

    return run


@rule("popc clz brev bfind", ["b32", "b64", "u32", "u64", "s32", "s64"], "shiftamt")
def look_at_bits(binder: Binder) -> Execute:
    """Count or reverse bits, or find the highest one that differs from the sign."""
    width = WIDTH[binder.type]
    result = binder.type if binder.name == "brev" else "u32"
    write, read = binder.writer(binder.operands[0], result), binder.bits(binder.operands[1], width)
    is_signed, from_top = binder.type in SIGNED, binder.has("shiftamt")

    def run(chunk: Chunk, lanes: Lanes) -> None:
        values = np.ascontiguousarray(read(chunk, lanes))
        each = np.unpackbits(values.view(np.uint8).reshape(len(values), -1), 1, bitorder="little")
        downwards = each[:, ::-1]
        if binder.name == "popc":
            found = each.sum(1)
        elif binder.name == "brev":
            packed = np.packbits(np.ascontiguousarray(downwards), 1, bitorder="little")
            write(chunk, lanes, packed.view(values.dtype)[:, 0])
            return
        else:
            if is_signed and binder.name == "bfind":
                downwards = downwards ^ downwards[:, :1]
            zeros = np.where(downwards.any(1), downwards.argmax(1), width)
            found = zeros
            if binder.name == "bfind":
                found = np.where(zeros == width, -1, zeros if from_top else width - 1 - zeros)
        write(chunk, lanes, found.astype(np.uint32))

    return run


_PERMUTES = ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")


def _selectors(mode: str, control: Array) -> list[Array]:
    """Give, for each byte of a result, which of the eight bytes it is (PTX ISA, `prmt`)."""
    low, half = control & 3, control & 1
    table = {
        "f4e": [low + k for k in range(4)],
        "b4e": [(low - k) & 7 for k in range(4)],
        "rc8": [low] * 4,
        "ecl": [np.maximum(low, k) for k in range(4)],
        "ecr": [np.minimum(low, k) for k in range(4)],
        "rc16": [half * 2, half * 2 + 1, half * 2, half * 2 + 1],
    }
    return table[mode] if mode else [(control >> 4 * k) & 15 for k in range(4)]


@rule("prmt", ["b32", *_PERMUTES], "b32")
def permute_bytes(binder: Binder) -> Execute:
    """Choose four of the eight bytes of two registers; bit 3 of a choice spreads a byte's sign."""
    mode = binder.instruction.one_of(*_PERMUTES)
    write = binder.writer(binder.operands[0], "b32")
    left, right, control = (binder.bits(operand, 32) for operand in binder.operands[1:])

    def run(chunk: Chunk, lanes: Lanes) -> None:
        both = left(chunk, lanes) | (right(chunk, lanes).astype(np.uint64) << np.uint64(32))
        result = np.zeros(1, np.uint32)
        for k, choice in enumerate(_selectors(mode, control(chunk, lanes).astype(np.int64))):
            byte = (both >> ((choice & 7) * 8).astype(np.uint64)) & np.uint64(0xFF)
            sign = np.where(byte > 0x7F, np.uint64(0xFF), np.uint64(0))
            byte = np.where(choice & 8, sign, byte).astype(np.uint32)
            result = result | byte << np.uint32(8 * k)
        write(chunk, lanes, result)

    return run


@rule("lop3", ["b32"])
def combine_three(binder: Binder) -> Execute:
    """Combine three registers bit by bit, as a table of eight bits says."""
    table = parse_literal(binder.operands[4], 32)
    if table is None:
        raise binder.instruction.unsupported("the table must be a number")
    write = binder.writer(binder.operands[0])
    readers = [binder.bits(operand, 32) for operand in binder.operands[1:4]]

    def run(chunk: Chunk, lanes: Lanes) -> None:
        values = [read(chunk, lanes) for read in readers]
        result = np.zeros(1, np.uint32)
        for row in range(8):
            if table >> row & 1:
                bits = [v if row >> (2 - k) & 1 else ~v for k, v in enumerate(values)]
                result = result | (bits[0] & bits[1] & bits[2])
        write(chunk, lanes, result)

    return run
