"""Watching what threads do to memory that others use: shared memory, and global stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .datatypes import WARP, Array, Lanes, unsigned
from .syntax import Instruction

if TYPE_CHECKING:
    from .chunk import Chunk
    from .memory import Region

WORD = 4
_SEVERAL = 0xFF  # more than one warp
_TAG_BITS = 8


class SharedWatch:
    """Who has read and written which bytes of shared memory since the last barrier.

    Warps are told apart, lanes are not: those of one warp are not checked against each other. Any
    barrier counts for the whole block, also one for some of its warps. Atomics are left out, and
    so is a store of what another warp has stored already: several may say the same.
    """

    def __init__(self, shared: Array) -> None:
        self.is_written = np.zeros(shared.size, np.uint8)  # 0xff for bytes that hold a value
        # Interval between barriers, and the warp within it.
        self._reader = np.zeros(shared.size, np.int64)
        self._writer = np.zeros(shared.size, np.int64)
        self._interval = np.ones(len(shared), np.int64)

    def pass_barrier(self, blocks: Array | slice) -> None:
        """Begin a new interval for blocks of the chunk."""
        self._interval[blocks] += 1

    def unwritten(self, offsets: Array, width: int, count: int) -> Array:
        """Tell which accesses would read a byte that nothing has written."""
        flags, first = self.is_written.view(unsigned(width)), offsets // (width // 8)
        is_bad = np.zeros(len(offsets), bool)
        for k in range(count):
            is_bad |= flags[first + k] != flags.dtype.type((1 << width) - 1)
        return is_bad

    def write(self, offsets: Array, width: int, count: int) -> None:
        """Remember that bytes hold a value now."""
        flags = self.is_written.view(unsigned(width))
        for k in range(count):
            flags[offsets // (width // 8) + k] = flags.dtype.type((1 << width) - 1)

    def load(
        self, chunk: Chunk, instruction: Instruction, offsets: Array, size: int, lanes: Array
    ) -> None:
        """Report loads of what another warp has stored in this interval."""
        interval, mine = self._who(chunk, lanes)
        is_race = np.zeros(len(lanes), bool)
        for at in (offsets + k for k in range(size)):
            is_race |= self._others(self._writer[at], interval, mine)
            is_other = self._others(self._reader[at], interval, mine)
            self._reader[at] = mine
            is_other |= self._reader[at] != mine
            self._reader[at[is_other]] = interval[is_other] | _SEVERAL
        self._report("load of", chunk, instruction, lanes[is_race])

    def store(
        self,
        chunk: Chunk,
        instruction: Instruction,
        offsets: Array,
        size: int,
        lanes: Array,
        is_new: Array,
        is_kept: Array,
    ) -> None:
        """Report stores to what another warp has used in this interval.

        is_new: whose values were not there before; is_kept: whose values are there now.
        """
        interval, mine = self._who(chunk, lanes)
        is_race = np.zeros(len(lanes), bool)
        for at in (offsets + k for k in range(size)):
            is_race |= self._others(self._reader[at], interval, mine)
            is_race |= self._others(self._writer[at], interval, mine) & is_new
            self._writer[at] = mine
            is_race |= (self._writer[at] != mine) & ~is_kept
        self._report("store to", chunk, instruction, lanes[is_race])

    def _who(self, chunk: Chunk, lanes: Array) -> tuple[Array, Array]:
        interval = self._interval[chunk.block_index[lanes]] << _TAG_BITS
        return interval, interval | chunk.thread[lanes] // WARP

    @staticmethod
    def _others(kept: Array, interval: Array, mine: Array) -> Array:
        answer: Array = (kept >= interval) & (kept != mine)
        return answer

    @staticmethod
    def _report(what: str, chunk: Chunk, instruction: Instruction, lanes: Array) -> None:
        if len(lanes):
            message = f"race: {what} a shared word that another warp uses before the next barrier"
            chunk.find("shared race", instruction, message, lanes)


class GlobalWatch:
    """Which thread stored a word of global memory, when, and whether it fenced since.

    A fence covers the thread's own earlier stores, and what its block stored before the last
    barrier. It has to come before what tells other blocks of the store, an atomic or another store
    of the block: a fence after a ticket is too late. Only whole words are watched, and only in
    buffers that are not read-only. Atomics are not stores here.
    """

    def __init__(self, threads_per_block: int, blocks: int) -> None:
        self._threads_per_block = threads_per_block
        self._words: dict[Region, tuple[Array, Array]] = {}  # thread or -1, time
        self._now = 0
        self._fence = np.zeros(threads_per_block * blocks, np.int64)
        self._barrier, self._covered = np.zeros(blocks, np.int64), np.zeros(blocks, np.int64)
        # What of both other blocks may have heard of.
        self._told_fence, self._told_covered = self._fence.copy(), self._covered.copy()

    def pass_barrier(self, blocks: Array) -> None:
        """Remember a barrier of blocks of the launch."""
        self._now += 1
        self._barrier[blocks] = self._now

    def fence(self, chunk: Chunk, lanes: Lanes) -> None:
        """Make what threads stored visible to other blocks."""
        self._now += 1
        lanes_ = chunk.lanes(lanes)
        self._fence[chunk.global_thread[lanes_]] = self._now
        blocks = chunk.blocks[chunk.block_index[lanes_]]
        self._covered[blocks] = self._barrier[blocks]

    def tell(self, chunk: Chunk, lanes: Array) -> None:
        """Remember that other blocks may hear from these threads' blocks now."""
        blocks = np.unique(chunk.blocks[chunk.block_index[lanes]])
        self._told_covered[blocks] = self._covered[blocks]
        by_block = (-1, self._threads_per_block)
        self._told_fence.reshape(by_block)[blocks] = self._fence.reshape(by_block)[blocks]

    def store(
        self,
        chunk: Chunk,
        instruction: Instruction,
        region: Region,
        offsets: Array,
        size: int,
        lanes: Array,
    ) -> None:
        """Remember a store; report words that another block has stored to."""
        self.tell(chunk, lanes)
        if size < WORD:
            return
        if region not in self._words:
            count = len(region.content) // WORD + 2
            self._words[region] = np.full(count, -1, np.int64), np.zeros(count, np.int64)
        thread, time = self._words[region]
        self._now += 1
        mine = chunk.global_thread[lanes]
        is_shared = np.zeros(len(lanes), bool)
        for k in range(size // WORD):
            words = offsets // WORD + k
            before = thread[words]
            is_shared |= (before >= 0) & self._differ(before, mine)
            thread[words], time[words] = mine, self._now
            is_shared |= self._differ(thread[words], mine)
        if is_shared.any():
            message = f"two blocks store to the same word of '{region.name}'"
            chunk.find("two stores", instruction, message, lanes[is_shared])

    def load(
        self,
        chunk: Chunk,
        instruction: Instruction,
        region: Region,
        offsets: Array,
        size: int,
        lanes: Array,
    ) -> None:
        """Report loads of what another block stored without a fence, or that ask for no change."""
        if region not in self._words:
            return
        thread, time = self._words[region]
        mine = chunk.global_thread[lanes]
        is_unfenced, is_stored = np.zeros(len(lanes), bool), np.zeros(len(lanes), bool)
        for k in range(max(1, size // WORD)):
            words = offsets // WORD + k
            storer = thread[words]
            was_stored = storer >= 0
            is_stored |= was_stored
            fenced = np.maximum(
                self._told_fence[storer], self._told_covered[storer // self._threads_per_block]
            )
            is_unfenced |= was_stored & (time[words] >= fenced) & self._differ(storer, mine)
        if is_unfenced.any():
            message = f"read of another block's store without a fence, in '{region.name}'"
            chunk.find("no fence", instruction, message, lanes[is_unfenced])
        if "nc" in instruction.modifiers and is_stored.any():
            message = f"non-coherent read of what this launch has stored, in '{region.name}'"
            chunk.find("not coherent", instruction, message, lanes[is_stored])

    def _differ(self, left: Array, right: Array) -> Array:
        answer: Array = left // self._threads_per_block != right // self._threads_per_block
        return answer
