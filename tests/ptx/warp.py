"""What the lanes of a warp do together: shuffles, votes, reductions.

Lanes that work together must come to the same instruction. Hardware would let two different
`bar.warp.sync` of a divergent warp meet; here they wait for each other in vain, which is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .datatypes import AT_WARP_SYNC, DONE, RUNNING, WARP, Array, Execute, Lanes, Reader, integer_of
from .floats import encode, maximum, minimum
from .operands import Binder
from .registry import rule
from .syntax import parse_literal

if TYPE_CHECKING:
    from .chunk import Chunk
    from .program import End

_EVERY_LANE = np.uint32(0xFFFFFFFF)


def together(binder: Binder, member_mask: str, perform: Execute) -> End:
    """Let lanes wait until all that are named in their mask, and alive, have come."""
    read_mask, instruction = binder.bits(member_mask, 32), binder.instruction

    def run(chunk: Chunk, lanes: Lanes, pc: int) -> int | None:
        if lanes is None and (read_mask(chunk, None) == _EVERY_LANE).all():
            chunk.arrived = None
            perform(chunk, None)
            return pc + 1
        waiting = np.nonzero((chunk.state == AT_WARP_SYNC) & (chunk.pc == pc))[0]
        here = np.union1d(waiting, chunk.lanes(lanes))
        masks = chunk.spread(read_mask(chunk, here), here)
        is_own = (masks >> chunk.lane_in_warp[here]) & np.uint32(1)
        if not is_own.all():
            message = "a lane that its own member mask leaves out"
            raise chunk.fault(instruction, message, here[int(np.argmin(is_own))])
        alive = chunk.masks(np.nonzero(chunk.state != DONE)[0])[chunk.warps[here]]
        is_absent = (masks & ~alive) != 0
        if is_absent.any():
            message = "the member mask names lanes that have exited"
            chunk.find("absent lane", instruction, message, here[is_absent])
        needed = masks & alive
        has_all = (chunk.masks(here)[chunk.warps[here]] & needed) == needed
        ready, left = here[has_all], here[~has_all]
        chunk.state[left] = AT_WARP_SYNC
        chunk.pc[left] = pc
        if len(ready):
            chunk.state[ready] = RUNNING
            chunk.pc[ready] = pc + 1
            chunk.arrived = chunk.masks(ready)
            perform(chunk, ready if len(ready) < chunk.size else None)
        return None

    return run


@rule("bar", modifiers="warp sync", ends_block=True)
def synchronise(binder: Binder) -> End:
    """Wait for the lanes of a mask."""
    return together(binder, binder.operands[0], lambda chunk, lanes: None)


@rule("shfl", ["b32"], "sync up down bfly idx", ends_block=True)
def shuffle(binder: Binder) -> End:
    """Read a register of another lane; one out of range reads its own."""
    destinations = binder.destinations(binder.operands[0])
    write = binder.writer(destinations[0])
    write_range = binder.writer(destinations[1], "pred") if len(destinations) > 1 else None
    _, source, by, clamp, mask = binder.operands
    read, read_by, read_clamp = (binder.bits(operand, 32) for operand in (source, by, clamp))
    mode = binder.instruction.one_of("up", "down", "bfly", "idx")
    constants = parse_literal(by, 32), parse_literal(clamp, 32)

    def find_sources(chunk: Chunk, lanes: Lanes) -> tuple[Array, Array]:
        if constants[0] is None or constants[1] is None:
            here = chunk.lanes(lanes)
            return _sources(mode, here, read_by(chunk, lanes), read_clamp(chunk, lanes))
        key = mode, constants[0], constants[1]
        if key not in chunk.shuffles:
            operands = (np.array([constant]) for constant in key[1:])
            chunk.shuffles[key] = _sources(mode, chunk.every_lane, *operands)
        found = chunk.shuffles[key]
        return found if lanes is None else (found[0][lanes], found[1][lanes])

    def run(chunk: Chunk, lanes: Lanes) -> None:
        sources, is_in_range = find_sources(chunk, lanes)
        values = chunk.spread(read(chunk, None), None)[sources]
        if chunk.arrived is not None:
            arrived = chunk.arrived[sources // WARP] >> chunk.lane_in_warp[sources]
            is_absent = (arrived & np.uint32(1)) == 0
            if is_absent.any():
                message = "shuffle from a lane that does not take part"
                at = chunk.lanes(lanes)[is_absent]
                chunk.find("absent source", binder.instruction, message, at)
                values = np.where(is_absent, _EVERY_LANE, values)
        write(chunk, lanes, values)
        if write_range is not None:
            write_range(chunk, lanes, is_in_range.copy())

    return together(binder, mask, run)


def _sources(mode: str, lanes: Array, by: Array, clamp: Array) -> tuple[Array, Array]:
    """Give the lane that each lane reads, and whether that lies in its segment."""
    lane, by, clamp = lanes % WARP, by.astype(np.int64) & 31, clamp.astype(np.int64)
    segment = (clamp >> 8) & 31
    last = (lane & segment) | (clamp & 31 & ~segment)
    wanted = {
        "up": lane - by,
        "down": lane + by,
        "bfly": lane ^ by,
        "idx": (lane & segment) | (by & ~segment),
    }[mode]
    is_in_range = wanted >= last if mode == "up" else wanted <= last
    return lanes - lane + np.where(is_in_range, wanted, lane), is_in_range


@rule("vote", ["pred", "b32"], "sync all any uni ballot", ends_block=True)
def vote(binder: Binder) -> End:
    """Combine a predicate over the lanes of a mask."""
    write = binder.writer(binder.operands[0])
    predicate, read_mask = binder.predicate(binder.operands[1]), binder.bits(binder.operands[2], 32)
    mode = binder.instruction.one_of("all", "any", "uni", "ballot")

    def run(chunk: Chunk, lanes: Lanes) -> None:
        here = chunk.lanes(lanes)
        choice = chunk.spread(predicate(chunk, lanes), lanes)
        members = _members(chunk, read_mask, lanes)
        ballot = chunk.masks(here[choice])[chunk.warps[here]] & members
        if mode == "ballot":
            write(chunk, lanes, ballot)
        elif mode == "all":
            write(chunk, lanes, ballot == members)
        elif mode == "any":
            write(chunk, lanes, ballot != 0)
        else:
            write(chunk, lanes, (ballot == members) | (ballot == 0))

    return together(binder, binder.operands[2], run)


def _members(chunk: Chunk, read_mask: Reader, lanes: Lanes) -> Array:
    """Give the mask of the lanes that take part with each executing lane."""
    masks = chunk.spread(read_mask(chunk, lanes), lanes)
    if chunk.arrived is None:
        return masks
    return masks & chunk.arrived[chunk.warps[chunk.lanes(lanes)]]


_REDUCTIONS = {
    "add": (np.add, 0),
    "min": (np.minimum, None),
    "max": (np.maximum, None),
    "and": (np.bitwise_and, -1),
    "or": (np.bitwise_or, 0),
    "xor": (np.bitwise_xor, 0),
}


@rule("redux", ["u32", "s32", "b32"], "sync add min max and or xor", ends_block=True)
def reduce_warp(binder: Binder) -> End:
    """Combine integers over the lanes of a mask."""
    write, read = binder.writer(binder.operands[0]), binder.value(binder.operands[1], binder.type)
    read_mask = binder.bits(binder.operands[2], 32)
    mode = binder.instruction.one_of(*_REDUCTIONS)
    combine, identity = _REDUCTIONS[mode]
    number = integer_of(binder.type)
    if identity is None:
        info = np.iinfo(number)
        identity = info.max if mode == "min" else info.min
    neutral = np.array([identity]).astype(number)

    def run(chunk: Chunk, lanes: Lanes) -> None:
        here = chunk.lanes(lanes)
        values = np.zeros(chunk.size, number)
        values[here] = read(chunk, lanes)
        rows = values.reshape(-1, WARP)[chunk.warps[here]]
        is_member = _members(chunk, read_mask, lanes)[:, None] >> np.arange(WARP, dtype=np.uint32)
        chosen = np.where(is_member & np.uint32(1), rows, neutral)
        write(chunk, lanes, combine.reduce(chosen, axis=1, dtype=number))

    return together(binder, binder.operands[2], run)


@rule("redux", ["f32"], "sync min max NaN", ends_block=True)
def reduce_floats(binder: Binder) -> End:
    """Give the smallest or the largest number of the lanes of a mask."""
    write, read = binder.writer(binder.operands[0]), binder.value(binder.operands[1], "f32")
    read_mask = binder.bits(binder.operands[2], 32)
    choose = minimum if binder.has("min") else maximum
    propagates = binder.has("NaN")

    def run(chunk: Chunk, lanes: Lanes) -> None:
        here = chunk.lanes(lanes)
        values = np.full(chunk.size, np.nan, np.float32)
        values[here] = read(chunk, lanes)
        rows = values.reshape(-1, WARP)[chunk.warps[here]]
        members = _members(chunk, read_mask, lanes)[:, None] >> np.arange(WARP, dtype=np.uint32)
        is_member = (members & np.uint32(1)) != 0
        # A lane of itself leaves everything as it is: it stands for those that are left out.
        result = values[here]
        for lane in range(WARP):
            chosen = choose(result, rows[:, lane], propagate_nan=propagates)
            result = np.where(is_member[:, lane], chosen, result)
        write(chunk, lanes, encode(result, "f32"))

    return together(binder, binder.operands[2], run)


@rule("activemask", ["b32"])
def active_mask(binder: Binder) -> Execute:
    """Give the mask of the lanes that execute this together."""
    write = binder.writer(binder.operands[0])

    def run(chunk: Chunk, lanes: Lanes) -> None:
        here = chunk.lanes(lanes)
        write(chunk, lanes, chunk.masks(here)[chunk.warps[here]])

    return run
