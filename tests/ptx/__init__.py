"""An interpreter of PTX: kernels compiled for a GPU, run and checked on a machine without one.

    module = Module(text)
    memory = Memory()
    address = memory.map(array, name="x")
    report = launch(module, "rows", grid=4, block=256, arguments=[address, 7], memory=memory)
    assert not report.findings

It computes what the hardware computes, bit by bit, and watches what the hardware does not: every
access is checked against the buffers that were mapped, every word of shared memory against races,
every read of another block's store against a missing fence. It counts instructions and the traffic
of global memory; it does not know time. What it cannot run it refuses, naming the line.

The order of reading is `module` (text), `program` (code), `registry` and the files of instructions
(meaning), `scheduler` (running), `access` and `races` (checks), `launch`.
"""

from .errors import PtxError
from .launch import Report, launch
from .memory import Memory
from .module import Kernel, Module
from .traffic import Traffic

__all__ = ["Kernel", "Memory", "Module", "PtxError", "Report", "Traffic", "launch"]
