"""The PTX interpreter converts between types as the PTX ISA says."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from ptx_snippets import COUNT, RNG, bits, evaluate, floats, rounded, to_bf16, wrap

TO_INTEGER = [(s, t) for s in ("f32", "f64") for t in ("s32", "u32", "s64", "u64", "u8", "s16")]


@pytest.mark.parametrize(("source", "target"), TO_INTEGER)
def test_float_to_integer_clamps(source: str, target: str) -> None:
    values = floats("f4" if source == "f32" else "f8")
    with np.errstate(all="ignore"):
        values[::2] *= 2.0 ** RNG.integers(0, 70, COUNT // 2)
    size = int(target[1:])
    low, high = (0, 2**size - 1) if target[0] == "u" else (-(2 ** (size - 1)), 2 ** (size - 1) - 1)
    of_nan = 1 << size - 1 if source == "f64" or size == 64 else 0
    found = evaluate(f"cvt.rzi.{target}.{source} %d, %a;", f"u{size // 8}", values)
    for value, result in zip(values.tolist(), found.tolist(), strict=True):
        if np.isnan(value):
            assert result == of_nan
        else:
            whole = (high if value > 0 else low) if np.isinf(value) else int(value)
            assert result == wrap(max(low, min(high, whole)), size)


@pytest.mark.parametrize(("target", "dtype"), [("f16", "f2"), ("f32", "f4"), ("f64", "f8")])
@pytest.mark.parametrize(("source", "number"), [("s64", "i8"), ("u64", "u8"), ("s32", "i4")])
def test_integer_to_float_rounds_once(source: str, number: str, target: str, dtype: str) -> None:
    values = bits(number)
    # Just above the middle between two float32, by less than float64 can tell.
    values[:3] = np.array([(1 << 62) + (1 << 38) + 1, (1 << 62) + (3 << 38) - 1, 1 << 61]).astype(
        number
    )
    found = evaluate(f"cvt.rn.{target}.{source} %d, %a;", dtype, values)
    wanted = [rounded(Fraction(value), dtype) for value in values.tolist()]
    assert found.astype(np.float64).tolist() == wanted


def test_float_to_float_rounds_as_told() -> None:
    values = floats("f8")
    with np.errstate(all="ignore"):
        nearest = values.astype(np.float32)
    found = evaluate("cvt.rn.f32.f64 %d, %a;", "f4", values)
    assert ((found == nearest) | np.isnan(values)).all()
    for mode, is_right in (("rz", np.less_equal), ("rm", np.less_equal), ("rp", np.greater_equal)):
        cut = evaluate(f"cvt.{mode}.f32.f64 %d, %a;", "f4", values).astype(np.float64)
        left, right = (np.abs(cut), np.abs(values)) if mode == "rz" else (cut, values)
        assert (is_right(left, right) | np.isnan(values)).all()
        with np.errstate(all="ignore"):
            assert (np.abs(cut - nearest) <= np.spacing(np.abs(nearest)) * 1.5)[
                np.isfinite(nearest) & np.isfinite(cut)
            ].all()
    singles = floats("f4")
    halves = evaluate("cvt.rn.bf16.f32 %d, %a;", "u2", singles)
    assert ((halves == to_bf16(singles)) | np.isnan(singles)).all()
    assert (halves[np.isnan(singles)] == 0x7FFF).all()
    upper, lower = floats("f4"), floats("f4")
    pair = evaluate("cvt.rn.f16x2.f32 %d, %a, %b;", "u4", upper, lower).view(np.float16)
    with np.errstate(all="ignore"):
        assert ((pair[1::2] == upper.astype("f2")) | np.isnan(upper)).all()
        assert ((pair[::2] == lower.astype("f2")) | np.isnan(lower)).all()
