"""Instructions that Triton's PTX needs: matrices of shared memory, mixed sums, float reductions."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ptx import Memory, PtxError
from ptx_snippets import evaluate, run_text

BEGIN = """
.reg .b32 %t; .reg .b32 %v<9>; .reg .b32 %a; .reg .b64 %in; .reg .b64 %out; .reg .b64 %x;
.shared .align 16 .b8 room[512];
ld.param.u64 %in, [p0]; ld.param.u64 %out, [p1];
mov.u32 %t, %tid.x; mul.wide.u32 %x, %t, 16; add.s64 %in, %in, %x; add.s64 %out, %out, %x;
mov.u32 %a, room; mad.lo.u32 %a, %t, 16, %a;
"""
# Lane i puts down row i of four matrices; or each of its four registers.
FILL = "ld.global.v4.b32 {%v0, %v1, %v2, %v3}, [%in]; "
PUT = "st.global.v4.b32 [%out], {%v4, %v5, %v6, %v7};"
ROWS = "st.shared.v4.b32 [%a], {%v0, %v1, %v2, %v3}; bar.sync 0; "


def moved(body: str) -> tuple[np.ndarray, np.ndarray]:
    """What a warp reads, as 4 matrices of 8 x 8, and what it wrote, (lane, matrix, half)."""
    given = np.arange(256, dtype=np.uint16)
    out, memory = np.zeros(256, np.uint16), Memory()
    arguments = [memory.map(given, "in"), memory.map(out, "out")]
    run_text([BEGIN + FILL + body + PUT + " ret;"], memory, arguments, grid=1, block=32)
    return given, out


@pytest.mark.parametrize("trans", [False, True])
def test_load_matrix(trans: bool) -> None:
    form = ".trans" if trans else ""
    load = f"ldmatrix.sync.aligned.m8n8.x4{form}.shared.b16 {{%v4, %v5, %v6, %v7}}, [%a];"
    given, out = moved(ROWS + load)
    matrices = given.reshape(4, 8, 8)
    matrices = matrices.transpose(0, 2, 1) if trans else matrices
    # Lane i: two neighbours of row i / 4 of each.
    want = matrices.reshape(4, 32, 2).transpose(1, 0, 2)
    assert np.array_equal(out.reshape(32, 4, 2), want)


@pytest.mark.parametrize("trans", [False, True])
def test_store_matrix(trans: bool) -> None:
    form = ".trans" if trans else ""
    store = f"stmatrix.sync.aligned.m8n8.x4{form}.shared.b16 [%a], {{%v0, %v1, %v2, %v3}}; "
    given, out = moved(store + "bar.sync 0; ld.shared.v4.b32 {%v4, %v5, %v6, %v7}, [%a];")
    want = given.reshape(32, 4, 2).transpose(1, 0, 2).reshape(4, 8, 8)
    want = want.transpose(0, 2, 1) if trans else want
    assert np.array_equal(out.reshape(4, 8, 8), want)


def test_a_row_begins_at_16_bytes() -> None:
    load = "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%v4}, [%a+8];"
    with pytest.raises(PtxError, match="misaligned row of a matrix"):
        moved(ROWS + load)


def test_a_negative_base_of_32_bits() -> None:
    """What an offset makes up for: the sum is of 32 bits."""
    low = "sub.u32 %a, %a, 64; ld.shared.v4.b32 {%v4, %v5, %v6, %v7}, [%a+64];"
    given, out = moved(ROWS + low)
    assert np.array_equal(given, out)


@pytest.mark.parametrize("name", ["add", "sub"])
def test_sums_of_16_and_32_bits(name: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(500).astype(np.float16), rng.standard_normal(500).astype("f4")
    got = evaluate(f"{name}.rn.f32.f16 %d, %a, %b;", "f4", a, b)
    want = a.astype("f4") + b if name == "add" else a.astype("f4") - b
    assert np.array_equal(got, want)


def test_a_mixed_sum_names_its_type() -> None:
    with pytest.raises(PtxError, match=re.escape("unsupported instruction: add.rz.f16")):
        evaluate("add.rz.f16 %d, %a, %b;", "f2", np.zeros(9, "f2"), np.zeros(9, "f2"))


@pytest.mark.parametrize("mode", ["min", "max"])
def test_reductions_of_floats(mode: str) -> None:
    x = np.random.default_rng(0).standard_normal(128).astype("f4")
    x[5] = np.nan
    x[32:64] = np.nan
    got = evaluate(f"redux.sync.{mode}.f32 %d, %a, 0xffffffff;", "f4", x)
    combine = np.fmin if mode == "min" else np.fmax
    with np.errstate(invalid="ignore"):
        want = np.repeat(combine.reduce(x.reshape(4, 32), axis=1), 32)
    assert np.array_equal(got, want, equal_nan=True)
    got = evaluate(f"redux.sync.{mode}.NaN.f32 %d, %a, 0xffffffff;", "f4", x)
    assert np.isnan(got[:64]).all()
    assert np.array_equal(got[64:], want[64:])
