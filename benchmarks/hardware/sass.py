"""Read the machine code of kernels: loops, loads, execution pipes, registers. No GPU is needed.

Cubins are taken apart by the cuobjdump of the Triton wheel. Control flow follows branches: a loop
is natural, that is, entered by its first block only, so code that ptxas moved behind the end of a
kernel and that jumps back from there makes no loop. `CALL` counts as one instruction and falls
through; `Loop.calls` says how often it occurs.

Which opcode runs in which pipe is partly an assumption: see `gpus.PIPES`.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hardware.flow import natural_loops, walk
from hardware.gpus import SHARED_RESERVED, Resources, blocks_per_multiprocessor
from hardware.instruction import Instruction

_LINE = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P[0-9T]+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
_USAGE = re.compile(r"Function (\S+?):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
_WRITES = ("STG", "STS", "ST", "RED", "REDG", "ATOM", "ATOMG", "ATOMS", "STAS")


class SassError(RuntimeError):
    """Reports machine code that cannot be read, and why."""


@dataclass(frozen=True)
class Loop:
    """Describes a natural loop.

    Attributes:
        instructions: all of them, in order of address, on rare paths and in the uniform pipe too:
            each takes an issue slot. Loops inside are counted once.
        path: those on the way round that loads most, and of such ways the longest.
    """

    instructions: Sequence[Instruction]
    path: Sequence[Instruction]

    @property
    def global_bytes(self) -> int:
        """Return the bytes that a thread loads from global memory in each iteration."""
        return sum(i.global_bytes for i in self.path)

    @property
    def loads(self) -> Mapping[int, int]:
        """Return how many loads from global memory of each width in bytes are on `path`."""
        return Counter(i.global_bytes for i in self.path if i.global_bytes)

    @property
    def calls(self) -> int:
        """Return how many calls it has; what they run is not counted."""
        return sum(i.name == "CALL" for i in self.instructions)

    @property
    def writes(self) -> bool:
        """Return whether it writes to global or shared memory."""
        return any(i.name in _WRITES for i in self.instructions)

    @property
    def counts(self) -> bool:
        """Return whether it counts elements in histograms, which no loop that folds does."""
        return any(i.opcode.startswith("ATOMS.POPC.INC") for i in self.instructions)

    @property
    def exact(self) -> bool:
        """Return whether it works in float64 on narrower elements: the rare second reading."""
        return max(self.loads, default=0) < 8 and "FP64" in self.by_pipe()

    def by_pipe(self) -> Mapping[str, int]:
        """Return how many of `instructions` each execution pipe runs."""
        return Counter(i.pipe for i in self.instructions)


@dataclass(frozen=True)
class KernelCode:
    """Describes a kernel as it runs."""

    name: str
    resources: Resources
    instructions: Sequence[Instruction]

    @property
    def local_accesses(self) -> Sequence[Instruction]:
        """Return the accesses to local memory: spills, and arrays indexed at run time."""
        return [i for i in self.instructions if i.name in ("LDL", "STL")]

    @cached_property
    def loops(self) -> Sequence[Loop]:
        """Return the innermost natural loops that load from global memory."""
        weights = [i.global_bytes for i in self.instructions]
        found = []
        for body in natural_loops(self.instructions, weights):
            on_path = walk(self.instructions, body, weights)
            found.append(Loop(_take(self.instructions, body.members), on_path))
        return found


def hot_loop(code: KernelCode) -> Loop:
    """Return the innermost loop that reads most bytes of a tensor per iteration.

    Loops that write to memory, which choose pivots and fold parts into a state, come after all that
    only read or count in histograms, and loops that read a second time in float64 after those that
    do not. Of a float64 kernel's the latter cannot be told: there the bytes alone decide.

    Raises:
        SassError: there is none.
    """

    def standing(loop: Loop) -> tuple[bool, bool, int, int]:
        only_reads = loop.counts or not loop.writes
        return only_reads, not loop.exact, loop.global_bytes, -len(loop.instructions)

    if not code.loops:
        raise SassError(f"kernel {code.name!r} has no loop that reads global memory")
    return max(code.loops, key=standing)


def loads_in_flight(loop: Loop) -> int:
    """Return the most bytes that a thread asks for before it has to wait for a load.

    Two rounds are followed, for loops that load what the next round uses. Loads come back in
    order, and as late as they can: when one of their registers is first named.
    """
    waiting: list[tuple[frozenset[int], int]] = []
    most = 0
    for instruction in [*loop.path, *loop.path]:
        named = instruction.registers | instruction.loaded
        last = max((n for n, (regs, _) in enumerate(waiting) if regs & named), default=-1)
        waiting = waiting[last + 1 :]
        if instruction.loaded:
            waiting.append((instruction.loaded, instruction.global_bytes))
            most = max(most, sum(size for _, size in waiting))
    return most


def bytes_in_flight(code: KernelCode, threads: int, capability: tuple[int, int]) -> int:
    """Return the bytes that a multiprocessor's threads have in flight in the hot loop.

    As many blocks of `threads` as fit, each thread with all its `loads_in_flight`.
    """
    blocks = blocks_per_multiprocessor(code.resources, threads, capability)
    return blocks * threads * loads_in_flight(hot_loop(code))


def disassemble(cubin: bytes) -> dict[str, KernelCode]:
    """Return the kernels of a cubin by name.

    Raises:
        SassError: cuobjdump is missing, or does not accept the cubin.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.cubin"
        path.write_bytes(cubin)
        usage = _USAGE.findall(_ask("-res-usage", path))
        text = _ask("-sass", path)
    # From 9.0 on, cuobjdump counts what the system takes for each block.
    newer = re.search(r"code for sm_(\d+)", text)
    reserved = SHARED_RESERVED if newer and int(newer[1]) >= 90 else 0
    resources = {
        name: Resources(int(registers), max(0, int(shared) - reserved), int(stack), int(local))
        for name, registers, stack, shared, local in usage
    }
    kernels = {}
    for section in text.split("Function : ")[1:]:
        name, _, body = section.partition("\n")
        lines = filter(None, (_LINE.match(line) for line in body.splitlines()))
        code = [Instruction(int(m[1], 16), m[2] or "", m[3], m[4]) for m in lines]
        kernels[name.strip()] = KernelCode(name.strip(), resources[name.strip()], code)
    return kernels


def why_not() -> str | None:
    """Return what is missing for reading machine code, or None."""
    try:
        find_tool("cuobjdump")
    except SassError as error:
        return str(error)
    return None


def find_tool(name: str) -> Path:
    """Return a binary that comes with Triton, found without importing it.

    Raises:
        SassError: there is no such package, or it holds no such binary.
    """
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        raise SassError(f"{name} comes with the package triton, which is not installed")
    path = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / name
    if not path.is_file():
        raise SassError(f"the installed package triton holds no {name}: {path} is not there")
    return path


def _ask(option: str, path: Path) -> str:
    command = [str(find_tool("cuobjdump")), option, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SassError(f"cuobjdump {option}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _take(code: Sequence[Instruction], places: Iterable[int]) -> Sequence[Instruction]:
    return [code[place] for place in sorted(places)]
