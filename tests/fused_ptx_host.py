"""Kernels that Inductor generated, run as PTX by the project's interpreter.

python -m fused_ptx_host cases.pt parts.pt      as `fused.interpreter` has them
"""

from __future__ import annotations

import sys
from typing import Any

from fused import fake_gpu  # before torch

# isort: split
import torch
from fused import machine_code
from fused.interpreter import partials_of
from hardware.gpus import GPUS, WARP
from ptx import Memory, Module, launch
from torch import Tensor


class PtxKernel:
    """A kernel that runs as the wrapper of Inductor calls it, compiled for an H200."""

    def __init__(self, name: str, source: str) -> None:
        self._config, self._made = machine_code.build(name, source, GPUS["H200"])
        self._module = Module(self._made.asm["ptx"])

    def run(self, *args: Any, stream: object = None) -> None:
        """Run all blocks of the kernel, in an order of chance."""
        rows = next(arg for arg in args if isinstance(arg, int))
        memory, values = Memory(), []
        for number, arg in enumerate(args):
            if isinstance(arg, Tensor):
                memory.map_address(arg.data_ptr(), arg.nbytes, f"argument {number}")
                arg = arg.data_ptr()
            values.append(arg)
        name = self._made.metadata.name
        unused = len(self._module.kernels[name].params) - len(values)  # Triton's own scratch memory
        report = launch(
            self._module,
            name,
            grid=-(-rows // self._config.kwargs["XBLOCK"]),
            block=self._config.num_warps * WARP,
            arguments=[*values, *[0] * unused],
            memory=memory,
            shared_bytes=self._made.metadata.shared,
            order="random",
        )
        assert not report.findings, report.findings


def main() -> None:
    """Run the cases of one file and write their partials to another."""
    fake_gpu.pretend()
    parts = []
    for code, inputs in torch.load(sys.argv[1]):
        parts.append(partials_of(code, inputs, PtxKernel))
    torch.save(parts, sys.argv[2])


if __name__ == "__main__":
    main()
