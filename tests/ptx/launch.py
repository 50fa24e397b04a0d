"""Launching a kernel, and what comes of it."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .chunk import Chunk
from .context import Context
from .datatypes import FLOATS, WIDTH, Array
from .errors import PtxError
from .memory import Memory
from .module import Kernel, Module
from .scheduler import run_chunk
from .syntax import Variable
from .traffic import ByteCounter, Traffic

# Enough lanes that numpy's work outweighs Python's, few enough that registers stay in the cache.
LANES_AT_ONCE = 16384
ORDERS = ("forward", "reverse", "random")


@dataclass
class Report:
    """What was noticed while a kernel ran. `loads` and the like are by the names of buffers."""

    findings: list[str]
    loads: dict[str, Traffic]
    stores: dict[str, Traffic]
    atomics: dict[str, Traffic]
    instructions: Counter[str]  # of warps, by opcode with its modifiers
    _counters: dict[str, list[ByteCounter]] = field(default_factory=dict)

    def load_counts(self, name: str) -> Array:
        """Give how often each byte of a buffer was loaded; asked for with `count_bytes_of`."""
        if name not in self._counters:
            asked = ", ".join(self._counters) or "none"
            raise PtxError(f"loads of '{name}' were not counted by byte; counted: {asked}")
        counts = [counter.counts() for counter in self._counters[name]]
        return np.concatenate([np.zeros(0, np.int32), *counts])


def launch(
    module: Module,
    kernel: str,
    *,
    grid: int | Sequence[int],
    block: int | Sequence[int],
    arguments: Sequence[bytes | int | float],
    memory: Memory,
    shared_bytes: int = 0,
    order: str = "forward",
    seed: int = 0,
    blocks_at_once: int | None = None,
    count: bool = True,
    count_bytes_of: Iterable[str] = (),
    max_steps: int = 100_000_000,
) -> Report:
    """Run a kernel on host memory, and report.

    Args:
        module: The PTX text.
        kernel: The name of its entry.
        grid: Blocks, along up to three axes.
        block: Threads of a block, along up to three axes.
        arguments: One for each parameter: the bytes of a struct, or a number.
        memory: What the kernel may touch.
        shared_bytes: Dynamic shared memory of a block.
        order: In which order blocks run: "forward", "reverse" or "random".
        seed: Of the random order.
        blocks_at_once: How many blocks run side by side; the default suits speed.
        count: Whether to count the traffic of global memory.
        count_bytes_of: Names of buffers whose every byte's loads are counted.
        max_steps: When to give up, in instructions of groups of lanes.

    Raises:
        PtxError: The kernel does what it must not, or what this interpreter does not know.
    """
    if kernel not in module.kernels:
        raise PtxError(f"no kernel '{kernel}'; kernels here: {', '.join(module.kernels)}")
    entry = module.kernels[kernel]
    context = Context(
        entry.program,
        memory,
        _three(grid),
        _three(block),
        pack_arguments(entry, arguments),
        shared_bytes,
        count,
        max_steps,
    )
    _check_block(entry, context.threads)
    for name in count_bytes_of:
        if name not in memory.names:
            raise PtxError(f"no buffer '{name}'; buffers here: {', '.join(sorted(memory.names))}")
        context.byte_counters[name] = {
            region: ByteCounter(len(region.content))
            for region in memory.regions
            if region.name == name
        }
    blocks = _ordered(context.blocks, order, seed)
    at_once = blocks_at_once or max(1, LANES_AT_ONCE // context.threads)
    with np.errstate(all="ignore"):
        for first in range(0, len(blocks), at_once):
            run_chunk(Chunk(context, blocks[first : first + at_once]))
    return _report(context)


def pack_arguments(kernel: Kernel, arguments: Sequence[bytes | int | float]) -> Array:
    """Lay the arguments of a launch out as the kernel reads them."""
    if len(arguments) != len(kernel.params):
        message = f"kernel {kernel.name} takes {len(kernel.params)} arguments"
        raise PtxError(f"{message}, not {len(arguments)}")
    packed = bytearray()
    for variable, argument in zip(kernel.params, arguments, strict=True):
        packed += bytes(-len(packed) % variable.align) + _pack(kernel, variable, argument)
    # Filled up, so that they can be seen as words of any width.
    return np.frombuffer(bytes(packed) + bytes(-len(packed) % 16), np.uint8)


def _pack(kernel: Kernel, variable: Variable, argument: bytes | int | float) -> bytes:
    if isinstance(argument, bytes | bytearray):
        if len(argument) != variable.size:
            where = f"parameter {variable.name} of kernel {kernel.name}"
            raise PtxError(f"{where} has {variable.size} bytes, not {len(argument)}")
        return bytes(argument)
    if variable.size != WIDTH[variable.element] // 8:
        raise PtxError(f"parameter {variable.name} of kernel {kernel.name} takes bytes")
    if variable.element in FLOATS or isinstance(argument, float):
        return struct.pack("<d" if variable.size == 8 else "<f", argument)
    return (int(argument) & ((1 << 8 * variable.size) - 1)).to_bytes(variable.size, "little")


def _three(shape: int | Sequence[int]) -> tuple[int, int, int]:
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    x, y, z = (*sizes, 1, 1)[:3]
    if min(x, y, z) < 1 or len(sizes) > 3:
        raise PtxError(f"a grid or block of shape {shape}")
    return x, y, z


def _check_block(kernel: Kernel, threads: int) -> None:
    if threads > 1024:
        raise PtxError(f"a block of {threads} threads; at most 1024 are possible")
    for kind, sizes in re.findall(r"\.(reqntid|maxntid)\s+([\d,\s]+)", kernel.function.attributes):
        limit = int(np.prod([int(size) for size in sizes.split(",")]))
        if threads > limit or (kind == "reqntid" and threads != limit):
            raise PtxError(f"kernel {kernel.name} has .{kind} {limit}, not {threads} threads")


def _ordered(count: int, order: str, seed: int) -> Array:
    blocks = np.arange(count)
    if order not in ORDERS:
        raise PtxError(f"order '{order}'; possible: {', '.join(ORDERS)}")
    if order == "random":
        return np.random.default_rng(seed).permutation(blocks)
    return blocks[::-1] if order == "reverse" else blocks


def _report(context: Context) -> Report:
    findings = [
        text + (f", {count} times" if (count := context.found_count[key]) > 1 else "")
        for key, text in sorted(context.found.items(), key=lambda item: item[0][1])
    ]
    instructions: Counter[str] = Counter()
    for start, warps in context.visits.items():
        for opcode in context.program.blocks[start].opcodes:
            instructions[opcode] += warps
    counters = {name: list(of.values()) for name, of in context.byte_counters.items()}
    return Report(findings, context.loads, context.stores, context.atomics, instructions, counters)
