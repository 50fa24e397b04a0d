"""What ptxas makes of the kernels, for every GPU: the table is printed with `pytest -rP`."""

from __future__ import annotations

import cuda_host
import pytest
import torch
from cuda_host import ARCHS
from hardware import sass

from fmstats.backends import DTYPES
from fmstats.backends.cuda import nvrtc

pytestmark = [
    cuda_host.needs_nvrtc,
    pytest.mark.skipif(sass.why_not() is not None, reason=str(sass.why_not())),
]

VECTORS = ("rows", "rows_warp", "ragged", "ragged_warp", "columns")
# By bytes of an element: an H100 issues about 34, 17 and 8.5 an element at full memory speed.
MOST_INSTRUCTIONS = {4: 20, 2: 13, 1: 16}
MOST_STACK = 32  # bytes a thread
IN_FLIGHT = 32 * 1024  # bytes a multiprocessor


def threads(kernel: str) -> int:
    return 128 if kernel.startswith("columns") else 256


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("kernel", nvrtc.KERNELS)
def test_machine_code(kernel: str, arch: str) -> None:
    capability = (int(arch[:-1]), int(arch[-1]))
    for code_of, dtype in enumerate(DTYPES):
        cubin = nvrtc.compile_kernel(kernel, code_of, nvrtc.ALL, f"sm_{arch}")
        code = sass.disassemble(cubin)[nvrtc.ENTRY]
        loop = sass.hot_loop(code)
        each = len(loop.instructions) / (loop.global_bytes / dtype.itemsize)
        in_flight = sass.bytes_in_flight(code, threads(kernel), capability)
        resources = code.resources
        print(
            f"{kernel:13}sm_{arch:4}{str(dtype).removeprefix('torch.'):14}"
            f"{resources.registers:4} registers{resources.shared_bytes:6} B shared"
            f"{each:7.1f} instructions an element{in_flight // 1024:4} KB in flight"
        )
        # Nothing is spilled on the way over the data; what is read again may keep a few numbers.
        assert resources.stack_bytes <= MOST_STACK
        assert resources.local_bytes == 0
        assert not {"LDL", "STL"} & {instruction.name for instruction in loop.instructions}
        if kernel not in VECTORS:
            continue
        assert set(loop.loads) == {16}
        assert in_flight >= IN_FLIGHT
        if arch != "80" and dtype.itemsize in MOST_INSTRUCTIONS:
            assert each <= MOST_INSTRUCTIONS[dtype.itemsize]
            assert loop.calls == 0


@pytest.mark.parametrize("mode", [nvrtc.PLAIN, nvrtc.UPPER])
@pytest.mark.parametrize("kernel", nvrtc.KERNELS)
def test_fewer_thresholds_cost_less(kernel: str, mode: int) -> None:
    """Saturation is compiled in for layers that have bounds, and for no other."""
    for dtype in (torch.float32, torch.bfloat16, torch.float8_e4m3fn):
        # There ptxas makes 376 instructions with an upper bound and 362 with every threshold.
        if kernel == "strided" and dtype.itemsize == 1 and mode == nvrtc.UPPER:
            continue
        code_of = DTYPES.index(dtype)
        lengths = []
        for each in (mode, nvrtc.ALL):
            cubin = nvrtc.compile_kernel(kernel, code_of, each, "sm_90")
            code = sass.disassemble(cubin)[nvrtc.ENTRY]
            assert code.resources.stack_bytes == 0
            assert not code.local_accesses
            lengths.append(len(sass.hot_loop(code).instructions))
        assert lengths[0] < lengths[1]
