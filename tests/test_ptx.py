"""The PTX interpreter computes what PTX says, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from ptx_snippets import COUNT, bf16, bits, evaluate, floats, rounded, to_bf16, wrap


def field(x: int, place: int, length: int, size: int, signed: bool) -> int:
    """`bfe`, as the PTX ISA words it."""
    x, place, length = wrap(x, size), place & 255, length & 255
    top = min(place + length - 1, size - 1)
    sign = (x >> top) & 1 if signed and length else 0
    return sum(
        (((x >> place + i) & 1) if i < length and place + i < size else sign) << i
        for i in range(size)
    )


def insert(a: int, b: int, place: int, length: int) -> int:
    for i in range(length & 255):
        at = (place & 255) + i
        if at < 32:
            b = b & ~(1 << at) | ((a >> i) & 1) << at
    return b


def permute(a: int, b: int, control: int) -> int:
    result = 0
    for k in range(4):
        choice = control >> 4 * k & 15
        byte = (a | b << 32) >> 8 * (choice & 7) & 255
        result |= ((255 if byte > 127 else 0) if choice & 8 else byte) << 8 * k
    return result


def quotient(a: int, b: int) -> int:
    return -1 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def remainder(a: int, b: int) -> int:
    return a if b == 0 else a - b * quotient(a, b)


def four_products(a: int, b: int, c: int) -> int:
    parts = [(x >> 8 * k & 255) for x in (a, b) for k in range(4)]
    return c + sum(
        x * (y - 256 if y > 127 else y) for x, y in zip(parts[:4], parts[4:], strict=True)
    )


INTEGERS: list[tuple[str, str, str, Callable[..., int]]] = [
    ("add.s32 %d, %a, %b", "i4", "i4 i4", lambda a, b: a + b),
    ("add.sat.s32 %d, %a, %b", "i4", "i4 i4", lambda a, b: max(-(2**31), min(2**31 - 1, a + b))),
    ("sub.s64 %d, %a, %b", "i8", "i8 i8", lambda a, b: a - b),
    ("mul.lo.s64 %d, %a, %b", "i8", "i8 i8", lambda a, b: a * b),
    ("mul.hi.s32 %d, %a, %b", "i4", "i4 i4", lambda a, b: a * b >> 32),
    ("mul.hi.u64 %d, %a, %b", "u8", "u8 u8", lambda a, b: a * b >> 64),
    ("mul.hi.s64 %d, %a, %b", "i8", "i8 i8", lambda a, b: a * b >> 64),
    ("mul.wide.u16 %d, %a, %b", "u4", "u2 u2", lambda a, b: a * b),
    ("mad.wide.s32 %d, %a, %b, %c", "i8", "i4 i4 i8", lambda a, b, c: a * b + c),
    ("mad.hi.u32 %d, %a, %b, %c", "u4", "u4 u4 u4", lambda a, b, c: (a * b >> 32) + c),
    ("mad.lo.s32 %d, %a, %b, %c", "i4", "i4 i4 i4", lambda a, b, c: a * b + c),
    ("div.s64 %d, %a, %b", "i8", "i8 i8", quotient),
    ("rem.s32 %d, %a, %b", "i4", "i4 i4", remainder),
    ("div.u32 %d, %a, %b", "u4", "u4 u4", quotient),
    ("rem.u64 %d, %a, %b", "u8", "u8 u8", remainder),
    ("min.s64 %d, %a, %b", "i8", "i8 i8", min),
    ("max.u32 %d, %a, %b", "u4", "u4 u4", max),
    ("abs.s32 %d, %a", "i4", "i4", abs),
    ("neg.s16 %d, %a", "i2", "i2", lambda a: -a),
    ("shl.b32 %d, %a, %b", "u4", "u4 u4", lambda a, b: a << b if b < 32 else 0),
    ("shr.u64 %d, %a, %b", "u8", "u8 u4", lambda a, b: a >> b if b < 64 else 0),
    ("shr.s32 %d, %a, %b", "i4", "i4 u4", lambda a, b: a >> min(b, 31)),
    ("shf.l.wrap.b32 %d, %a, %b, %c", "u4", "u4 u4 u4",
     lambda a, b, c: (a | b << 32) << (c & 31) >> 32),
    ("shf.r.clamp.b32 %d, %a, %b, %c", "u4", "u4 u4 u4", 
     lambda a, b, c: (a | b << 32) >> min(c, 32)),
    ("bfe.u32 %d, %a, %b, %c", "u4", "u4 u4 u4", lambda a, b, c: field(a, b, c, 32, False)),
    ("bfe.s32 %d, %a, %b, %c", "i4", "i4 u4 u4", lambda a, b, c: field(a, b, c, 32, True)),
    ("bfe.s64 %d, %a, %b, %c", "i8", "i8 u4 u4", lambda a, b, c: field(a, b, c, 64, True)),
    ("bfi.b32 %d, %a, %b, %c, %e", "u4", "u4 u4 u4 u4", insert),
    ("prmt.b32 %d, %a, %b, %c", "u4", "u4 u4 u4", permute),
    ("prmt.b32.rc16 %d, %a, %b, %c", "u4", "u4 u4 u4",
     lambda a, b, c: (a >> 16 * (c & 1) & 0xFFFF) * 0x10001),
    ("lop3.b32 %d, %a, %b, %c, 0xE8", "u4", "u4 u4 u4", lambda a, b, c: a & b | a & c | b & c),
    ("popc.b64 %d, %a", "u4", "u8", lambda a: bin(a).count("1")),
    ("clz.b32 %d, %a", "u4", "u4", lambda a: 32 - a.bit_length()),
    ("brev.b32 %d, %a", "u4", "u4", lambda a: int(f"{a:032b}"[::-1], 2)),
    ("bfind.s32 %d, %a", "u4", "i4", lambda a: (a if a >= 0 else ~a).bit_length() - 1),
    ("dp4a.u32.s32 %d, %a, %b, %c", "i4", "u4 u4 i4", four_products),
    ("cvt.s32.s8 %d, %a", "i4", "i4", lambda a: (a & 127) - (a & 128)),
    ("cvt.sat.u8.s32 %d, %a", "u1", "i4", lambda a: max(0, min(255, a))),
    ("ld.global.s8 %d, [%at0]", "i4", "i1", lambda a: a),
    ("ld.global.u8 %d, [%at0]", "u4", "u1", lambda a: a),
    ("st.local.b16 [keep], %a; ld.local.u16 %d, [keep]", "u8", "u4", lambda a: a & 0xFFFF),
    ("cvt.u64.u32 %d, %a", "u8", "u4", lambda a: a),
    ("mov.b64 {%n0, %n1}, %a; mov.b64 %d, {%n1, %n0}", "u8", "u8", lambda a: a << 32 | a >> 32),
    ("setp.lt.s32 %p1|%p2, %a, %b; selp.u32 %n0, 1, 0, %p1; selp.u32 %d, 4, %n0, %p2", "u4",
     "i4 i4", lambda a, b: 1 if a < b else 4),
    ("setp.hi.u32 %p0, %a, 9; setp.ne.xor.u32 %p1|%p2, %b, 0, %p0; selp.u32 %n0, 2, 0, %p2;"
     "@%p1 add.u32 %n0, %n0, 1; mov.u32 %d, %n0", "u4", "u4 u4",
     lambda a, b: ((b != 0) ^ (a > 9)) + 2 * ((b == 0) ^ (a > 9))),
    ("set.ge.u32.s32 %d, %a, %b", "u4", "i4 i4", lambda a, b: 0xFFFFFFFF * (a >= b)),
    ("slct.u32.s32 %d, %a, %b, %c", "u4", "u4 u4 i4", lambda a, b, c: a if c >= 0 else b),
]  # fmt: skip


@pytest.mark.parametrize("case", INTEGERS, ids=lambda case: case[0].split(" ")[0])
def test_integers(case: tuple[str, str, str, Callable[..., int]]) -> None:
    instruction, result, types, expected = case
    inputs = [bits(dtype) for dtype in types.split()]
    found = evaluate(instruction + ";", result, *inputs, declare=".local .b16 keep;")
    size = 8 * found.itemsize
    rows = zip(*(values.tolist() for values in inputs), strict=True)
    wanted = [wrap(expected(*row), size) for row in rows]
    assert found.view(f"u{size // 8}").tolist() == wanted


ARITHMETIC: dict[str, tuple[int, Callable[..., Any]]] = {
    "add": (2, lambda a, b: a + b),
    "sub": (2, lambda a, b: a - b),
    "mul": (2, lambda a, b: a * b),
    "fma.rn": (3, lambda a, b, c: a * b + c),
    "div.rn": (2, lambda a, b: a / b),
}


FLOATS = (("f64", "f8"), ("f32", "f4"), ("f16", "f2"))


@pytest.mark.parametrize(
    ("operation", "type_", "dtype"),
    [(o, *types) for o in ARITHMETIC for types in FLOATS if (o, types[0]) != ("div.rn", "f16")],
)
def test_arithmetic_rounds_once(operation: str, type_: str, dtype: str) -> None:
    arity, exact = ARITHMETIC[operation]
    inputs = [floats(dtype) for _ in range(arity)]
    if operation == "fma.rn":  # products that cancel, down to what the product lost
        with np.errstate(all="ignore"):
            inputs[2][: COUNT // 3] = -(inputs[0] * inputs[1])[: COUNT // 3]
    names = ", ".join("%" + name for name in "abc"[:arity])
    found = evaluate(f"{operation}.{type_} %d, {names};", dtype, *inputs)
    for row, result in zip(zip(*inputs, strict=True), found, strict=True):
        with np.errstate(all="ignore"):
            wide = exact(*(np.float64(x) for x in row))
        if not all(np.isfinite(x) for x in row):
            finite = [np.isfinite(x) for x in row]
            wanted = row[2] if operation == "fma.rn" and finite == [True, True, False] else wide
        elif operation == "div.rn" and row[1] == 0:
            wanted = wide
        else:
            wanted = rounded(exact(*(Fraction(float(x)) for x in row)), dtype)
        assert (np.isnan(wanted) and np.isnan(result)) or float(result) == wanted, row
    if type_ != "f64":
        raw = found.view(f"u{found.itemsize}")[np.isnan(found)]
        assert set(raw.tolist()) <= {0x7FFFFFFF if type_ == "f32" else 0x7FFF}


@pytest.mark.parametrize(("type_", "dtype"), [("f64", "f8"), ("f32", "f4"), ("f32x2", "f4")])
def test_sums_just_below_the_middle_of_two_numbers(type_: str, dtype: str) -> None:
    # By so little that rounding first to a wider type would lose it.
    step, k = np.finfo(dtype).eps, np.arange(1, 9, dtype=dtype)
    left, right = 1 + k * step, step / 2 * (1 - k * step)
    inputs = [values.astype(dtype) for values in (left, right, np.full(8, 1 + step))]
    if type_ == "f32x2":
        inputs = [values.view("u8") for values in inputs]
    found = evaluate(f"fma.rn.{type_} %d, %a, %b, %c;", inputs[0].dtype.str, *inputs)
    assert (found.view(dtype) == 1 + step).all()


def test_pairs_compute_each_half() -> None:
    pairs = [bits("u4") & np.uint32(0x3FFF3FFF) | np.uint32(0x20002000) for _ in range(3)]
    halves = [p.view(np.uint16) for p in pairs]
    small = [h.view(np.float16).astype(np.float64) for h in halves]
    found = evaluate("fma.rn.f16x2 %d, %a, %b, %c;", "u4", *pairs)
    exact = (small[0] * small[1] + small[2]).astype(np.float16)
    assert (found.view(np.float16) == exact).all()
    product = bf16(halves[0]) * bf16(halves[1])  # 16 bits: exact
    found = evaluate("mul.rn.bf16x2 %d, %a, %b;", "u4", *pairs[:2])
    assert (found.view(np.uint16) == to_bf16(product)).all()
    for name, compare in (("min", np.minimum), ("max", np.maximum)):
        found = evaluate(f"{name}.bf16x2 %d, %a, %b;", "u4", *pairs[:2])
        assert (bf16(found.view(np.uint16)) == compare(bf16(halves[0]), bf16(halves[1]))).all()


@pytest.mark.parametrize("type_", ["f16x2", "bf16x2"])
@pytest.mark.parametrize("name", ["lt", "geu", "ne", "equ", "num", "nan"])
def test_compare_pairs(type_: str, name: str) -> None:
    pairs = [bits("u4"), bits("u4")]
    pairs[1][::4] = pairs[0][::4]
    as_float = bf16 if type_ == "bf16x2" else lambda halves: halves.view(np.float16)
    left, right = (as_float(p.view(np.uint16)) for p in pairs)
    is_nan = np.isnan(left) | np.isnan(right)
    wanted = {
        "lt": left < right,
        "geu": (left >= right) | is_nan,
        "ne": (left != right) & ~is_nan,
        "equ": (left == right) | is_nan,
        "num": ~is_nan,
        "nan": is_nan,
    }[name]
    masks = evaluate(f"set.{name}.u32.{type_} %d, %a, %b;", "u4", *pairs).view(np.uint16)
    assert (masks == np.where(wanted, 0xFFFF, 0)).all()
    ones = evaluate(f"set.{name}.{type_}.{type_} %d, %a, %b;", "u4", *pairs).view(np.uint16)
    assert (as_float(ones) == wanted).all()
    both = evaluate(
        f"setp.{name}.{type_} %p0|%p1, %a, %b; selp.u32 %n0, 1, 0, %p0; selp.u32 %n1, 2, 0, %p1;"
        "or.b32 %d, %n0, %n1;",
        "u4",
        *pairs,
    )
    assert (both == wanted[::2] + 2 * wanted[1::2]).all()


@pytest.mark.parametrize("type_", ["f32", "f64"])
def test_minimum_and_maximum(type_: str) -> None:
    dtype = "f4" if type_ == "f32" else "f8"
    left = np.array([0.0, -0.0, np.nan, 1.0, np.nan, -np.inf, 3.0], dtype)
    right = np.array([-0.0, 0.0, 2.0, np.nan, np.nan, 1.0, 5.0], dtype)
    low = evaluate(f"min.{type_} %d, %a, %b;", dtype, left, right)
    high = evaluate(f"max.{type_} %d, %a, %b;", dtype, left, right)
    np.testing.assert_array_equal(low, [0, 0, 2, 1, np.nan, -np.inf, 3])
    np.testing.assert_array_equal(high, [0, 0, 2, 1, np.nan, 1, 5])
    assert np.signbit(low[:2]).all()
    assert not np.signbit(high[:2]).any()
    kept = evaluate("min.NaN.f32 %d, %a, %b;", "f4", left.astype("f4"), right.astype("f4"))
    assert np.isnan(kept[2:5]).all()


def test_flush_to_zero_only_where_asked() -> None:
    tiny, one = np.array([1e-40, -1e-40], "f4"), np.ones(2, "f4")
    assert (evaluate("mul.f32 %d, %a, %b;", "f4", tiny, one) == tiny).all()
    flushed = evaluate("mul.ftz.f32 %d, %a, %b;", "f4", tiny, one)
    assert [str(number) for number in flushed] == ["0.0", "-0.0"]
    zero = np.zeros(2, "f4")
    equal = "setp.eq{}.f32 %p0, %a, %b; selp.u32 %d, 1, 0, %p0;"
    assert not evaluate(equal.format(""), "u4", tiny, zero).any()
    assert evaluate(equal.format(".ftz"), "u4", tiny, zero).all()
