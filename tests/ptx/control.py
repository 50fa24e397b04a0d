"""Branches, calls, barriers and fences.

What ends a basic block takes the address of the instruction and gives the next one, or None if it
has sent the lanes on their ways itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .datatypes import AT_BARRIER, DONE, Array, Execute, Lanes, Reader
from .operands import Binder
from .registry import rule
from .syntax import Instruction, Variable

if TYPE_CHECKING:
    from .chunk import Chunk
    from .program import End

# Lanes may stay at these, and enter them again.
WAITING = frozenset({"bar", "barrier", "shfl", "vote", "redux"})


def has_second_step(instruction: Instruction) -> bool:
    """Tell whether lanes do something more when they come back from the instruction."""
    return instruction.name == "call" or (
        instruction.name in ("bar", "barrier") and "red" in instruction.modifiers
    )


def bind_second_step(binder: Binder) -> Execute:
    """Make what is done on coming back: take over what a call or a barrier returned."""
    return bind_return(binder) if binder.name == "call" else bind_barrier_result(binder)


@rule("bra", modifiers="uni", ends_block=True)
def branch(binder: Binder) -> End:
    """Go elsewhere."""
    target = binder.program.target(binder, binder.operands[0])
    return lambda chunk, lanes, pc: target


@rule("exit", ends_block=True)
def leave(binder: Binder) -> End:
    """End the thread."""

    def run(chunk: Chunk, lanes: Lanes, pc: int) -> None:
        chunk.state[chunk.lanes(lanes)] = DONE

    return run


@rule("ret", modifiers="uni", ends_block=True)
def come_back(binder: Binder) -> End:
    """Go back to the caller; from the kernel, end the thread."""
    function = binder.instruction.function
    if function == binder.program.kernel.name:
        return leave(binder)

    def run(chunk: Chunk, lanes: Lanes, pc: int) -> int | None:
        targets = chunk.return_to[function][chunk.lanes(lanes)]
        if (targets == targets[0]).all():
            return int(targets[0])
        chunk.pc[chunk.lanes(lanes)] = targets
        return None

    return run


@rule("call", modifiers="uni", ends_block=True)
def call(binder: Binder) -> End:
    """Copy the arguments into the parameters of a function of the module, and go there."""
    name, _, arguments = _call_parts(binder)
    function = binder.program.functions.get(name)
    if function is None:
        raise binder.instruction.unsupported("a call of what the module does not define")
    copy = _copier(binder, arguments, function.params)
    entry = binder.program.entry_of(name)

    def run(chunk: Chunk, lanes: Lanes, pc: int) -> int:
        copy(chunk, lanes)
        if name not in chunk.return_to:
            chunk.return_to[name] = np.zeros(chunk.size, np.int64)
        chunk.return_to[name][chunk.lanes(lanes)] = pc + 1
        return entry

    return run


def bind_return(binder: Binder) -> Execute:
    """Copy what a function has returned to where its caller reads it."""
    name, results, _ = _call_parts(binder)
    return _copier(binder, binder.program.functions[name].returns, results)


def _call_parts(binder: Binder) -> tuple[str, list[Variable], list[Variable]]:
    """Take apart `(results), name, (arguments)`."""
    lists: list[list[Variable]] = [[], []]
    name = ""
    for operand in binder.operands:
        if operand[0] != "(":
            name = operand
            continue
        for part in operand[1:-1].split(","):
            variable = binder.symbol(part.strip())
            if not isinstance(variable, Variable):
                raise binder.instruction.unsupported(f"{part} is no parameter")
            lists[1 if name else 0].append(variable)
    return name, lists[0], lists[1]


def _copier(binder: Binder, sources: list[Variable], targets: list[Variable]) -> Execute:
    if len(sources) != len(targets):
        raise binder.instruction.unsupported("a call with another number of parameters")
    offset = binder.program.offset
    moves = [
        (slice(offset(a), offset(a) + b.size), slice(offset(b), offset(b) + b.size))
        for a, b in zip(sources, targets, strict=True)
    ]

    def run(chunk: Chunk, lanes: Lanes) -> None:
        for source, target in moves:
            if lanes is None:
                chunk.local[:, target] = chunk.local[:, source]
            else:
                chunk.local[lanes, target] = chunk.local[lanes, source]

    return run


@rule("bar barrier", modifiers="sync cta aligned", ends_block=True)
def barrier(binder: Binder) -> End:
    """Wait for the block, or for as many of its threads as the second operand says."""
    number = binder.bits(binder.operands[0], 32)
    threads = binder.bits(binder.operands[1], 32) if len(binder.operands) > 1 else None
    return _wait(number, threads, None)


@rule("bar barrier", ["u32", "pred"], "cta red popc and or aligned", ends_block=True)
def barrier_vote(binder: Binder) -> End:
    """Wait for the block and count, or combine, a predicate of its threads."""
    _, number, *threads, vote = binder.operands
    return _wait(
        binder.bits(number, 32),
        binder.bits(threads[0], 32) if threads else None,
        binder.predicate(vote),
    )


def bind_barrier_result(binder: Binder) -> Execute:
    """Give what the threads that passed a barrier together have voted."""
    write, how = binder.writer(binder.operands[0]), binder.instruction.one_of("popc", "and", "or")

    def run(chunk: Chunk, lanes: Lanes) -> None:
        here = chunk.lanes(lanes)
        voted, passed = chunk.voted[here], chunk.passed[here]
        if how == "popc":
            write(chunk, lanes, voted.astype(np.uint32))
        else:
            write(chunk, lanes, voted > 0 if how == "or" else voted == passed)

    return run


def _wait(number: Reader, threads: Reader | None, vote: Reader | None) -> End:
    def run(chunk: Chunk, lanes: Lanes, pc: int) -> int | None:
        here = chunk.lanes(lanes)
        chunk.barrier[here] = number(chunk, lanes)
        chunk.barrier_threads[here] = 0 if threads is None else threads(chunk, lanes)
        if vote is not None:
            chunk.barrier_vote[here] = vote(chunk, lanes)
        is_one_barrier = threads is None and (chunk.barrier == chunk.barrier[0]).all()
        if lanes is None and is_one_barrier:
            pass_barrier(chunk, chunk.every_lane)
            return pc + 1
        chunk.state[here] = AT_BARRIER
        chunk.pc[here] = pc
        return None

    return run


def pass_barrier(chunk: Chunk, lanes: Array) -> None:
    """Account for lanes that pass their barriers: those of one block and number pass together."""
    keys = chunk.block_index[lanes] * 16 + chunk.barrier[lanes]
    room = len(chunk.blocks) * 16
    chunk.passed[lanes] = np.bincount(keys, minlength=room)[keys]
    chunk.voted[lanes] = np.bincount(keys[chunk.barrier_vote[lanes]], minlength=room)[keys]
    blocks = np.unique(chunk.block_index[lanes])
    chunk.shared_watch.pass_barrier(blocks)
    chunk.context.watch.pass_barrier(chunk.blocks[blocks])


@rule("membar", modifiers="cta gl sys")
@rule("fence", modifiers="sc acq_rel acquire release cta cluster gpu sys")
def fence(binder: Binder) -> Execute:
    """Order the memory accesses of a thread; only what other blocks see needs watching."""
    if not binder.instruction.one_of("gl", "sys", "gpu"):
        return do_nothing(binder)
    return lambda chunk, lanes: chunk.context.watch.fence(chunk, lanes)


@rule("nanosleep", ["u32"])
@rule("prefetch prefetchu", modifiers="global local L1 L2")
def do_nothing(binder: Binder) -> Execute:
    """Run what changes no value."""
    return lambda chunk, lanes: None


@rule("trap")
def trap(binder: Binder) -> Execute:
    """Stop the kernel."""

    def run(chunk: Chunk, lanes: Lanes) -> None:
        raise chunk.fault(binder.instruction, "trap", int(chunk.lanes(lanes)[0]))

    return run
