"""Some blocks that run together: one array for each register, over all their lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .datatypes import DONE, RUNNING, WARP, Array, Lanes, unsigned
from .errors import PtxError
from .program import Program
from .races import SharedWatch
from .syntax import Instruction

if TYPE_CHECKING:
    from .context import Context


class Chunk:
    """The state of blocks that run together. A lane is a thread, or fills up a warp that is not."""

    def __init__(self, context: Context, blocks: Array) -> None:
        self.context, self.memory, self.blocks = context, context.memory, blocks
        program: Program = context.program
        self.lanes_per_block = -(-context.threads // WARP) * WARP
        self.size = size = len(blocks) * self.lanes_per_block
        self.every_lane = np.arange(size)
        self.warps = self.every_lane // WARP
        self.lane_in_warp = (self.every_lane % WARP).astype(np.uint32)
        self.block_index = self.every_lane // self.lanes_per_block  # among those of the chunk
        self.thread = self.every_lane % self.lanes_per_block
        # The number of a thread in the launch.
        self.global_thread = blocks[self.block_index] * context.threads + self.thread
        self.slot_widths = program.slot_widths
        self.registers: list[Array | None] = [None] * len(self.slot_widths)
        # Memory that nothing has written reads as NaN.
        self.local = np.full((size, program.local_size), 0xFF, np.uint8)
        self.shared = np.full((len(blocks), context.shared_size), 0xFF, np.uint8)
        self.shared_watch = SharedWatch(self.shared)
        self.return_to: dict[str, Array] = {}
        self.pc = np.full(size, program.entry, np.int64)
        self.state = np.where(self.thread < context.threads, RUNNING, DONE).astype(np.int8)
        self.barrier = np.zeros(size, np.int64)
        self.barrier_threads = np.zeros(size, np.int64)  # 0: all of the block
        self.barrier_vote = np.zeros(size, bool)
        # Of the lanes that passed the barrier with this one: how many, and how many voted for.
        self.passed, self.voted = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self.arrived: Array | None = None  # lanes, as a mask for each warp; None: all
        self.shuffles: dict[tuple[str, int, int], tuple[Array, Array]] = {}
        self._special: dict[str, Array] = {}

    def make_register(self, slot: int) -> Array:
        """Make a register that some lanes write, or that is read before it is written."""
        width = self.slot_widths[slot]
        made = np.zeros(self.size, bool if width == 1 else unsigned(width))
        self.registers[slot] = made
        return made

    def lanes(self, lanes: Lanes) -> Array:
        """Give the executing lanes as numbers."""
        return self.every_lane if lanes is None else lanes

    def count(self, lanes: Lanes) -> int:
        """Count the executing lanes."""
        return self.size if lanes is None else len(lanes)

    def spread(self, values: Array, lanes: Lanes) -> Array:
        """Give one value for each executing lane, where a single one stood for all."""
        count = self.count(lanes)
        return values if len(values) == count else np.repeat(values, count)

    def masks(self, lanes: Array) -> Array:
        """Give, for each warp of the chunk, the mask of those lanes that are among `lanes`."""
        is_among = np.zeros(self.size, bool)
        is_among[lanes] = True
        packed = np.packbits(is_among.reshape(-1, WARP), axis=1, bitorder="little")
        return packed.view(np.uint32)[:, 0]

    def special(self, name: str) -> Array:
        """Give the values of a special register."""
        if name not in self._special:
            self._special[name] = self._make_special(name)
        return self._special[name]

    def _make_special(self, name: str) -> Array:
        context, name = self.context, name[1:]
        stem, _, axis = name.partition(".")
        if stem in ("tid", "ntid", "ctaid", "nctaid"):
            is_block = stem.endswith("ctaid")
            shape, at = context.grid if is_block else context.block, "xyz".index(axis)
            if stem.startswith("n"):
                return np.array([shape[at]])
            number = self.blocks[self.block_index] if is_block else self.thread
            return number // int(np.prod(shape[:at])) % shape[at]
        lane = self.lane_in_warp.astype(np.int64)
        one = np.int64(1)
        made: dict[str, Callable[[], Array]] = {
            "laneid": lambda: lane,
            "warpid": lambda: self.thread // WARP,
            "nwarpid": lambda: np.array([64]),
            "smid": lambda: self.blocks[self.block_index] % 132,
            "nsmid": lambda: np.array([132]),
            "gridid": lambda: np.array([0]),
            "lanemask_eq": lambda: one << lane,
            "lanemask_lt": lambda: (one << lane) - 1,
            "lanemask_le": lambda: (one << (lane + 1)) - 1,
            "lanemask_gt": lambda: 0xFFFFFFFF ^ ((one << (lane + 1)) - 1),
            "lanemask_ge": lambda: 0xFFFFFFFF ^ ((one << lane) - 1),
            "dynamic_smem_size": lambda: np.array([context.dynamic_shared]),
            "total_smem_size": lambda: np.array([context.shared_size]),
        }
        # Clocks stand still: nothing may depend on them.
        return made[name]() if name in made else np.array([0])

    def fault(self, instruction: Instruction, message: str, lane: int) -> PtxError:
        """Give the error of something that an executing lane did."""
        return PtxError(self.describe(instruction, message, lane))

    def describe(self, instruction: Instruction, message: str, lane: int) -> str:
        """Say what happened, and where."""
        block = int(self.blocks[self.block_index[lane]])
        return (
            f"kernel {self.context.program.kernel.name}, line {instruction.line}: {message}: "
            f"{instruction.text} (block {block}, thread {int(self.thread[lane])})"
        )

    def find(self, kind: str, instruction: Instruction, message: str, lanes: Array) -> None:
        """Report a suspicion about lanes; the same one again is only counted."""
        key = kind, instruction.line
        if key not in self.context.found:
            self.context.found[key] = self.describe(instruction, message, int(lanes[0]))
        self.context.found_count[key] += len(lanes)
