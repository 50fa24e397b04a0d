"""What Triton makes of the kernels for NVIDIA and AMD GPUs: the table is printed with `pytest -rP`.

Nothing spills, and vectors are loaded whole.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import triton_host
from hardware import sass
from test_triton_kernels import KERNELS, TENSORS
from triton_host import ARCHS, target_of

from fmstats.backends import DTYPES
from fmstats.backends.triton.plan import Layout, plan
from fmstats.statistic.view import view_of

pytestmark = triton_host.needs_triton

AMD = ("gfx942", "gfx1100")
# By bytes of an element, of rows and columns with every threshold.
MOST_INSTRUCTIONS = {4: 20, 2: 20, 1: 28, 8: 40}


def layout_of(kernel: str, dtype: torch.dtype) -> Layout:
    x = TENSORS[kernel]("zero", 160, dtype)
    return plan(view_of(x, 1), 0, dtype.itemsize, x.shape[1]).layout


def compiled(kernel: str, dtype: torch.dtype, target: str) -> Any:
    from fmstats.backends.triton import compiler

    name = str(dtype).removeprefix("torch.")
    if kernel == "fold":
        return compiler.compile_fold(name, target_of(target))
    return compiler.compile_measure(name, "all", layout_of(kernel, dtype), target_of(target))


@pytest.mark.skipif(sass.why_not() is not None, reason=str(sass.why_not()))
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("kernel", [*KERNELS, "fold"])
def test_nvidia(kernel: str, arch: str) -> None:
    for dtype in DTYPES:
        made = compiled(kernel, dtype, arch)
        code = sass.disassemble(made.asm["cubin"])[made.metadata.name]
        line = (
            f"{kernel:9}sm_{arch:5}{str(dtype).removeprefix('torch.'):14}"
            f"{code.resources.registers:4} registers {len(code.local_accesses)} spills"
        )
        assert code.resources.stack_bytes == 0
        assert not code.local_accesses
        if kernel != "fold":
            loop = sass.hot_loop(code)
            each = len(loop.instructions) / (loop.global_bytes / dtype.itemsize)
            line += f"{each:7.1f} instructions an element, loads of {max(loop.loads)} bytes"
            if kernel != "strided":
                assert set(loop.loads) == {16}
                assert each <= MOST_INSTRUCTIONS[dtype.itemsize]
        print(line)


# Registers of 4 bytes: 256 are all that a thread of gfx1100 has.
MOST_SPILLED = {
    ("columns", "gfx1100", torch.float8_e4m3fn): 8,
    ("columns", "gfx1100", torch.float8_e5m2): 8,
}


@pytest.mark.parametrize("arch", AMD)
@pytest.mark.parametrize("kernel", [*KERNELS, "fold"])
def test_amd(kernel: str, arch: str) -> None:
    for dtype in DTYPES:
        text = compiled(kernel, dtype, arch).asm["amdgcn"]
        counts = {
            name: int(re.findall(rf"\.{name}: +(\d+)", text)[-1])
            for name in ("vgpr_count", "vgpr_spill_count", "sgpr_spill_count")
        }
        print(
            f"{kernel:9}{arch:8}{str(dtype).removeprefix('torch.'):14}"
            f"{counts['vgpr_count']:4} VGPR {counts['vgpr_spill_count']} spills,"
            f" {counts['sgpr_spill_count']} SGPR kept in VGPR"
        )
        most = MOST_SPILLED.get((kernel, arch, dtype), 0)
        assert counts["vgpr_spill_count"] <= most
        assert int(re.findall(r"\.private_segment_fixed_size: +(\d+)", text)[-1]) <= 4 * most
        if kernel in ("rows", "columns"):
            wide = r"(global|buffer|flat)_load_(dwordx4|b128)"
            assert re.search(wide, text), "16 bytes at a time"
