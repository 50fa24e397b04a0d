"""Running a chunk to its end.

Of the lanes that can run, those with the lowest address run first: so lanes that parted at a branch
meet again behind it, as compilers lay out their code. They run on until they would pass the next
group. A thread that spins until another one, with a higher address, lets it go would spin for ever;
that is what `max_steps` ends.
"""

from __future__ import annotations

import numpy as np

from .chunk import Chunk
from .control import pass_barrier
from .datatypes import AT_BARRIER, AT_WARP_SYNC, DONE, RUNNING, Array
from .errors import PtxError


def run_chunk(chunk: Chunk) -> None:
    """Run the blocks of a chunk until all their threads have ended."""
    context = chunk.context
    basic_blocks, visits = context.program.blocks, context.visits
    done_before = -1
    while True:
        running = np.nonzero(chunk.state == RUNNING)[0]
        if not len(running):
            done = int(np.count_nonzero(chunk.state == DONE))
            if done == chunk.size:
                return
            if done != done_before and _wake_warps(chunk):
                done_before = done
            elif not _release_barriers(chunk):
                raise _deadlock(chunk)
            continue
        addresses = chunk.pc[running]
        pc: int | None = int(addresses.min())
        is_first = addresses == pc
        others = addresses[~is_first]
        limit = int(others.min()) if len(others) else len(context.program.code)
        first: Array = running[is_first]
        warps = 1 + int(np.count_nonzero(np.diff(chunk.warps[first])))
        lanes = None if len(first) == chunk.size else first
        while pc is not None and pc < limit:
            basic_block = basic_blocks[pc]
            visits[pc] += warps
            context.steps += len(basic_block.opcodes)
            for step in basic_block.steps:
                step(chunk, lanes)
            pc = basic_block.next
            if basic_block.end is not None:
                pc = basic_block.end(chunk, lanes, pc - 1)
            if context.steps > context.max_steps:
                name = context.program.kernel.name
                raise PtxError(f"kernel {name}: not finished after {context.max_steps} steps")
        if pc is not None:
            chunk.pc[chunk.lanes(lanes)] = pc


def _wake_warps(chunk: Chunk) -> bool:
    """Let waiting lanes look again, now that lanes which they waited for may have exited."""
    waiting = chunk.state == AT_WARP_SYNC
    chunk.state[waiting] = RUNNING
    return bool(waiting.any())


def _release_barriers(chunk: Chunk) -> bool:
    """Let the lanes of every complete barrier go on."""
    waiting = np.nonzero(chunk.state == AT_BARRIER)[0]
    if not len(waiting):
        return False
    keys = chunk.block_index[waiting] * 16 + chunk.barrier[waiting]
    arrived = np.bincount(keys, minlength=len(chunk.blocks) * 16)[keys]
    alive = np.bincount(chunk.block_index[chunk.state != DONE], minlength=len(chunk.blocks))
    expected = chunk.barrier_threads[waiting]
    expected = np.where(expected > 0, expected, alive[chunk.block_index[waiting]])
    ready = waiting[arrived >= expected]
    if not len(ready):
        return False
    pass_barrier(chunk, ready)
    chunk.state[ready] = RUNNING
    chunk.pc[ready] += 1
    return True


def _deadlock(chunk: Chunk) -> PtxError:
    waiting = np.nonzero(chunk.state != DONE)[0]
    places = []
    for pc in np.unique(chunk.pc[waiting]):
        there = waiting[chunk.pc[waiting] == pc]
        message = f"deadlock, {len(there)} threads wait"
        places.append(chunk.describe(chunk.context.program.code[pc], message, int(there[0])))
    return PtxError("; ".join(places))
