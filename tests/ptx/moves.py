"""Moving values about: registers, addresses, choices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .access import WINDOW_BITS, WINDOWS, space_of, window
from .datatypes import BITS, FLOATS, INTEGERS, PAIRS, WIDTH, Array, Execute, Lanes, unsigned
from .operands import Binder
from .registry import rule

if TYPE_CHECKING:
    from .chunk import Chunk

_WORDS = (BITS | INTEGERS | FLOATS | PAIRS) - {"b8", "u8", "s8"}


@rule("mov", ["pred"])
def move_predicate(binder: Binder) -> Execute:
    """Copy a predicate."""
    write, read = binder.writer(binder.operands[0]), binder.predicate(binder.operands[1])
    return lambda chunk, lanes: write(chunk, lanes, read(chunk, lanes).copy())


@rule("mov", _WORDS)
def move(binder: Binder) -> Execute:
    """Copy a register, read a special one, join some registers into one, or take one apart."""
    target, source = binder.operands
    if source.startswith("{"):
        return _join(binder)
    if target.startswith("{"):
        return _take_apart(binder)
    write, read = binder.writer(target), binder.bits(source, WIDTH[binder.type])
    return lambda chunk, lanes: write(chunk, lanes, read(chunk, lanes).copy())


def _join(binder: Binder) -> Execute:
    width = WIDTH[binder.type]
    parts = binder.vector(binder.operands[1])
    each, whole = width // len(parts), unsigned(width)
    write = binder.writer(binder.operands[0])
    readers = [binder.bits(part, each) for part in parts]

    def run(chunk: Chunk, lanes: Lanes) -> None:
        joined = np.zeros(1, whole)
        for k, read in enumerate(readers):
            joined = joined | (read(chunk, lanes).astype(whole) << whole(each * k))
        write(chunk, lanes, joined)

    return run


def _take_apart(binder: Binder) -> Execute:
    width = WIDTH[binder.type]
    parts = binder.vector(binder.operands[0])
    each, whole = width // len(parts), unsigned(width)
    writers = [binder.writer(part, f"b{each}") for part in parts]
    read = binder.bits(binder.operands[1], width)

    def run(chunk: Chunk, lanes: Lanes) -> None:
        values: Array = read(chunk, lanes)
        for k, write in enumerate(writers):
            write(chunk, lanes, (values >> whole(each * k)).astype(unsigned(each)))

    return run


@rule("cvta", ["u32", "u64"], "to global shared shared::cta local param param::entry const")
def convert_address(binder: Binder) -> Execute:
    """Make an address generic, or one within its state space."""
    width = WIDTH[binder.type]
    offset = window(space_of(binder.instruction))
    if offset and width < 64:
        raise binder.instruction.unsupported("generic addresses have 64 bits")
    shift = unsigned(width)(-offset % (1 << width) if binder.has("to") else offset)
    write, read = binder.writer(binder.operands[0]), binder.bits(binder.operands[1], width)
    return lambda chunk, lanes: write(chunk, lanes, read(chunk, lanes) + shift)


@rule("isspacep", ["global", "shared", "shared::cta", "local", "param", "const"])
def is_in_space(binder: Binder) -> Execute:
    """Tell whether a generic address lies in a state space."""
    write, read = binder.writer(binder.operands[0], "pred"), binder.bits(binder.operands[1], 64)
    number = WINDOWS.get(space_of(binder.instruction), 0)
    bits = np.uint64(WINDOW_BITS)
    return lambda chunk, lanes: write(chunk, lanes, (read(chunk, lanes) >> bits) == number)


@rule("selp", (INTEGERS | BITS | FLOATS) - {"b8", "u8", "s8"})
def select(binder: Binder) -> Execute:
    """Choose by a predicate."""
    width = WIDTH[binder.type]
    write = binder.writer(binder.operands[0])
    read_true, read_false = (binder.bits(operand, width) for operand in binder.operands[1:3])
    choose = binder.predicate(binder.operands[3])

    def run(chunk: Chunk, lanes: Lanes) -> None:
        write(
            chunk,
            lanes,
            np.where(choose(chunk, lanes), read_true(chunk, lanes), read_false(chunk, lanes)),
        )

    return run


@rule("slct", ["s32", "f32"], "ftz " + " ".join(_WORDS))
def select_by_sign(binder: Binder) -> Execute:
    """Choose by whether a number is at least zero; NaN is not, -0.0 is."""
    type_ = binder.modifiers[-2]
    write = binder.writer(binder.operands[0], type_)
    read_true, read_false = (binder.bits(operand, WIDTH[type_]) for operand in binder.operands[1:3])
    read_sign = binder.value(binder.operands[3], binder.type)

    def run(chunk: Chunk, lanes: Lanes) -> None:
        choice = read_sign(chunk, lanes) >= 0
        write(chunk, lanes, np.where(choice, read_true(chunk, lanes), read_false(chunk, lanes)))

    return run


@rule("createpolicy", ["b64"], "fractional L2::evict_first L2::evict_last L2::evict_normal")
def create_policy(binder: Binder) -> Execute:
    """Make a hint to a cache, which changes no value."""
    write = binder.writer(binder.operands[0])
    return lambda chunk, lanes: write(chunk, lanes, np.zeros(1, np.uint64))
