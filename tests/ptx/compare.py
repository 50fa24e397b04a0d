"""Comparisons, into predicates and into registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .arithmetic import halves_of, join_halves
from .datatypes import BITS, FLOATS, INTEGERS, PAIRS, WIDTH, Array, Execute, Lanes, Reader, unsigned
from .floats import decode, encode, flush
from .operands import Binder
from .registry import rule

if TYPE_CHECKING:
    from .chunk import Chunk

Compare = Callable[[Array, Array], Array]

_ORDERED: dict[str, Compare] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}
_UNORDERED = {f"{name}u": name for name in ("eq", "ne", "lt", "le", "gt", "ge")}
_COMBINE = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}
_MODIFIERS = " ".join([*_ORDERED, *_UNORDERED, *_COMBINE, "num nan ftz"])
_TYPES = (INTEGERS | BITS | FLOATS) - {"b8", "u8", "s8"}


def comparison(name: str, is_float: bool) -> Compare:
    """Give a comparison; of those of floats, NaN fails the ordered and passes the unordered."""
    if name == "nan":
        return lambda left, right: np.isnan(left) | np.isnan(right)
    if name == "num":
        return lambda left, right: ~(np.isnan(left) | np.isnan(right))
    if name in _UNORDERED:
        compare = _ORDERED[_UNORDERED[name]]
        return lambda left, right: compare(left, right) | np.isnan(left) | np.isnan(right)
    if name == "ne" and is_float:
        return lambda left, right: (left < right) | (left > right)
    return _ORDERED[name]


def _compared(binder: Binder) -> list[Reader]:
    """Compare the first two operands: one answer, or one for each half of a pair."""
    type_ = binder.type.removesuffix("x2")
    compare = comparison(binder.modifiers[0], type_ in FLOATS)
    flushes = binder.has("ftz")
    if type_ not in FLOATS:
        left, right = binder.values(*binder.operands[1:3])
        return [lambda chunk, lanes: compare(left(chunk, lanes), right(chunk, lanes))]

    def of_part(left: Reader, right: Reader) -> Reader:
        def run(chunk: Chunk, lanes: Lanes) -> Array:
            values = [decode(read(chunk, lanes), type_) for read in (left, right)]
            if flushes:
                values = [flush(v, type_) for v in values]
            return compare(*values)

        return run

    halves = [halves_of(binder, operand) for operand in binder.operands[1:3]]
    return [of_part(left, right) for left, right in zip(*halves, strict=True)]


def _combined(
    binder: Binder, chunk: Chunk, lanes: Lanes, also: Reader | None, answer: Array
) -> Array:
    if also is None:
        return answer
    return _COMBINE[binder.instruction.one_of(*_COMBINE)](answer, also(chunk, lanes))


def _third(binder: Binder) -> Reader | None:
    if not binder.instruction.one_of(*_COMBINE):
        return None
    return binder.predicate(binder.operands[3])


@rule("setp", _TYPES | PAIRS, _MODIFIERS)
def set_predicate(binder: Binder) -> Execute:
    """Compare into a predicate; a second one gets the opposite, or the answer of the upper half."""
    destinations = binder.destinations(binder.operands[0])
    writers = [binder.writer(name, "pred") for name in destinations]
    answers, also = _compared(binder), _third(binder)
    if len(answers) > 1 and len(writers) != 2:
        raise binder.instruction.unsupported("a pair has two answers")

    def run(chunk: Chunk, lanes: Lanes) -> None:
        found = [answer(chunk, lanes) for answer in answers]
        if len(found) < len(writers):
            found.append(~found[0])
        results = [_combined(binder, chunk, lanes, also, answer) for answer in found]
        for write, result in zip(writers, results, strict=True):
            write(chunk, lanes, result)

    return run


@rule("set", _TYPES | PAIRS, f"{_MODIFIERS} u16 s16 u32 s32 f16 bf16 f32 f16x2 bf16x2")
def set_value(binder: Binder) -> Execute:
    """Compare into a register: all bits set, or 1.0; of pairs, for each half."""
    result = binder.modifiers[-2]
    write = binder.writer(binder.operands[0], result)
    answers, also = _compared(binder), _third(binder)
    is_pair = len(answers) > 1
    part = result.removesuffix("x2")
    width = WIDTH[result] // len(answers)
    number = unsigned(width)
    one = encode(np.ones(1, np.float32), part) if part in FLOATS else ~np.zeros(1, number)

    def run(chunk: Chunk, lanes: Lanes) -> None:
        found = [
            np.where(_combined(binder, chunk, lanes, also, answer(chunk, lanes)), one, number(0))
            for answer in answers
        ]
        write(chunk, lanes, join_halves(*found) if is_pair else found[0])

    return run


_TESTS: dict[str, Callable[[Array], Array]] = {
    "finite": np.isfinite,
    "infinite": np.isinf,
    "number": lambda values: ~np.isnan(values),
    "notanumber": np.isnan,
}


@rule("testp", ["f32", "f64"], " ".join(_TESTS))
def test_number(binder: Binder) -> Execute:
    """Tell of what kind a number is."""
    test = _TESTS[binder.modifiers[0]]
    write = binder.writer(binder.operands[0], "pred")
    read = binder.value(binder.operands[1], binder.type)
    return lambda chunk, lanes: write(chunk, lanes, test(read(chunk, lanes)))
