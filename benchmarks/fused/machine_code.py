"""Compile generated kernels for a GPU and read what comes out. None is needed.

python -m fused.machine_code [GPU] < kernels.json   (source by name; prints `Code` by name)
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass
from typing import Any

from fused import fake_gpu  # before torch

# isort: split
from hardware import sass
from hardware.gpus import GPUS, WARP, Gpu, blocks_per_multiprocessor


@dataclass(frozen=True)
class Code:
    """Describes the machine code of a kernel.

    Attributes:
        registers: of a thread.
        stack_bytes: of a thread, spills among them.
        spills: accesses to local memory.
        warps: that fit on a multiprocessor.
        instructions: of the loop, for each element; NaN if there is none.
        pipes: how many of those each execution pipe runs.
        length: of the rows that it reduces.
        leaves: how many tensors it measures.
    """

    registers: int
    stack_bytes: int
    spills: int
    warps: int
    instructions: float
    pipes: dict[str, float]
    length: int
    leaves: int


def build(name: str, source: str, gpu: Gpu) -> tuple[Any, Any]:
    """Compile a kernel in its one tile; return that and what Triton made."""
    import torch._inductor.runtime.triton_helpers as helpers
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import ASTSource

    helpers.set_driver_to_gpu = lambda: None  # type: ignore[assignment]
    names: dict[str, Any] = {"__name__": name, "__file__": _file(name, source)}
    exec(compile(source, names["__file__"], "exec"), names)
    tuner = names[name]
    (config,) = tuner.configs
    meta = tuner._create_compile_meta(config)
    options = tuner._create_compile_options(config, meta)
    ast = ASTSource(tuner.fn, meta["signature"], meta["constants"], meta["configs"][0])
    arch = int(gpu.target.removeprefix("sm_"))
    return config, triton.compile(ast, target=GPUTarget("cuda", arch, WARP), options=options)


def read(name: str, source: str, gpu: Gpu) -> Code:
    """Compile a kernel and read its machine code."""
    config, made = build(name, source, gpu)
    (code,) = sass.disassemble(made.asm["cubin"]).values()
    threads = config.num_warps * WARP
    loop = max(code.loops, key=lambda loop: loop.global_bytes, default=None)
    # A loop may be unrolled: of each element of a tensor one number is added up in float64.
    leaves = source.count("_known = ")
    added = sum(i.name == "DADD" for i in loop.instructions) if loop else 0
    each = added / leaves if added and leaves else float("nan")
    length = re.search(r"r0_numel = (\d+)", source)
    return Code(
        code.resources.registers,
        code.resources.stack_bytes,
        len(code.local_accesses),
        blocks_per_multiprocessor(code.resources, threads, gpu.capability) * config.num_warps,
        len(loop.instructions) / each if loop else float("nan"),
        {pipe: count / each for pipe, count in loop.by_pipe().items()} if loop else {},
        int(length[1]) if length else 1,
        leaves,
    )


def _file(name: str, source: str) -> str:
    """Write a source where Triton can read it, as long as this process lives."""
    import atexit
    import tempfile

    file = tempfile.NamedTemporaryFile("w", prefix=name[:40], suffix=".py")  # noqa: SIM115
    atexit.register(file.close)
    file.write(source)
    file.flush()
    return file.name


def main() -> None:
    """Print the machine code of the kernels that are read."""
    fake_gpu.pretend()
    kernels, gpu = json.load(sys.stdin), GPUS[sys.argv[1] if len(sys.argv) > 1 else "H200"]
    codes = {name: asdict(read(name, source, gpu)) for name, source in kernels.items()}
    print(json.dumps(codes))


if __name__ == "__main__":
    main()
