"""The way from addresses to memory, with every check of an access."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .datatypes import WIDTH, Array, unsigned
from .operands import Binder
from .syntax import Instruction

if TYPE_CHECKING:
    from .chunk import Chunk
    from .memory import Region

# Above every host address; a generic address says by its upper bits which memory it lies in.
WINDOW_BITS = 56
WINDOWS = {"shared": 1, "local": 2, "param": 3}
SPACES = ("global", "shared", "local", "param", "const")


def window(space: str) -> int:
    """Give the generic address at which a state space begins."""
    return WINDOWS.get(space, 0) << WINDOW_BITS


def space_of(instruction: Instruction) -> str:
    """Give the state space that an instruction names."""
    for modifier in instruction.modifiers:
        space = modifier.partition("::")[0]
        if space in SPACES:
            return space
    return "generic"


@dataclass(frozen=True)
class Piece:
    """Where some lanes of an access find their elements."""

    elements: Array
    first: Array  # the index of each lane's first element
    chosen: Array | None  # these lanes among the executing ones; None: all of them
    is_shared: bool = False


class Access:
    """One instruction's way to memory: `count` neighbouring elements for each lane."""

    def __init__(self, binder: Binder, type_: str, count: int) -> None:
        self.instruction = binder.instruction
        self.is_atomic = binder.name in ("atom", "red")
        self.is_store, self.is_load = binder.name != "ld", binder.name != "st"
        self.width, self.count = WIDTH[type_], count
        self.size = self.width // 8 * count
        self.space = space_of(binder.instruction)
        self.is_kernel = binder.program.kernel.name == binder.instruction.function

    def pieces(self, chunk: Chunk, addresses: Array, lanes: Array) -> Iterator[Piece]:
        """Check an access and find the memory of every lane."""
        is_misaligned = (addresses & (self.size - 1)) != 0
        if is_misaligned.any():
            at = int(np.argmax(is_misaligned))
            message = f"misaligned access of {self.size} bytes at {int(addresses[at]):#x}"
            raise chunk.fault(self.instruction, message, lanes[at])
        if self.space != "generic":
            yield from self._in_space(self.space, chunk, addresses, lanes, None)
            return
        windows = addresses >> WINDOW_BITS
        spaces = {number: space for space, number in WINDOWS.items()}
        for number in np.unique(windows):
            chosen = None if (windows == number).all() else np.nonzero(windows == number)[0]
            space = spaces.get(int(number), "global")
            offset = window(space)
            # A function's own parameters have no generic address: this is the kernel's.
            space = "entry" if space == "param" else space
            if chosen is None:
                yield from self._in_space(space, chunk, addresses - offset, lanes, None)
            else:
                yield from self._in_space(
                    space, chunk, addresses[chosen] - offset, lanes[chosen], chosen
                )

    def put(self, chunk: Chunk, piece: Piece, lanes: Array, values: list[Array]) -> None:
        """Store the values of a piece's lanes; `lanes` are all those that execute."""
        lanes = lanes if piece.chosen is None else lanes[piece.chosen]
        is_new, is_kept = np.zeros(len(lanes), bool), np.ones(len(lanes), bool)
        for k, value in enumerate(values):
            at = piece.first + k
            is_new |= piece.elements[at] != value
            piece.elements[at] = value
        if piece.is_shared:
            for k, value in enumerate(values):
                is_kept &= piece.elements[piece.first + k] == value
            offsets = piece.first * (self.width // 8)
            watch = chunk.shared_watch
            watch.store(chunk, self.instruction, offsets, self.size, lanes, is_new, is_kept)

    def _in_space(
        self, space: str, chunk: Chunk, addresses: Array, lanes: Array, chosen: Array | None
    ) -> Iterator[Piece]:
        if space in ("global", "const"):
            yield from self._global(chunk, addresses, lanes, chosen)
        elif space == "shared":
            yield self._shared(chunk, addresses, lanes, chosen)
        elif space == "entry" or (space == "param" and self.is_kernel):
            self._check_bounds(chunk, "parameter", addresses, len(chunk.context.params), lanes)
            yield self._piece(chunk.context.params, addresses, chosen)
        else:
            bytes_each = chunk.local.shape[1]
            self._check_bounds(chunk, "local", addresses, bytes_each, lanes)
            yield self._piece(chunk.local.reshape(-1), lanes * bytes_each + addresses, chosen)

    def _piece(self, content: Array, offsets: Array, chosen: Array | None) -> Piece:
        usable = len(content) // (self.width // 8) * (self.width // 8)
        elements = content[:usable].view(unsigned(self.width))
        return Piece(elements, offsets // (self.width // 8), chosen)

    def _check_bounds(
        self, chunk: Chunk, memory: str, addresses: Array, size: int, lanes: Array
    ) -> None:
        is_outside = (addresses < 0) | (addresses + self.size > size)
        if is_outside.any():
            at = int(np.argmax(is_outside))
            where = f"{self.size} bytes at {int(addresses[at])} of {size}"
            message = f"{memory} memory out of bounds: {where}"
            raise chunk.fault(self.instruction, message, lanes[at])

    def _shared(self, chunk: Chunk, addresses: Array, lanes: Array, chosen: Array | None) -> Piece:
        size = chunk.context.shared_size
        self._check_bounds(chunk, "shared", addresses, size, lanes)
        offsets = chunk.block_index[lanes] * size + addresses
        watch = chunk.shared_watch
        if self.is_load:
            is_unwritten = watch.unwritten(offsets, self.width, self.count)
            if is_unwritten.any():
                at = int(np.argmax(is_unwritten))
                message = f"read of uninitialised shared memory at {int(addresses[at])}"
                raise chunk.fault(self.instruction, message, lanes[at])
        if self.is_store:
            watch.write(offsets, self.width, self.count)
        elif not self.is_atomic:
            watch.load(chunk, self.instruction, offsets, self.size, lanes)
        piece = self._piece(chunk.shared.reshape(-1), offsets, chosen)
        return replace(piece, is_shared=True)

    def _global(
        self, chunk: Chunk, addresses: Array, lanes: Array, chosen: Array | None
    ) -> Iterator[Piece]:
        region = chunk.memory.find(int(addresses.min()))
        if region is not None and int(addresses.max()) + self.size <= region.end:
            yield self._in_region(region, chunk, addresses, lanes, chosen)
            return
        left = np.arange(len(addresses))
        while len(left):
            address = int(addresses[left[0]])
            region = chunk.memory.find(address)
            if region is None or address + self.size > region.end:
                raise chunk.fault(self.instruction, self._outside(chunk, address), lanes[left[0]])
            there = addresses[left]
            is_in = (there >= region.address) & (there + self.size <= region.end)
            within = left[is_in]
            left = left[~is_in]
            of_all = within if chosen is None else chosen[within]
            yield self._in_region(region, chunk, addresses[within], lanes[within], of_all)

    def _outside(self, chunk: Chunk, address: int) -> str:
        before = [r for r in chunk.memory.regions if r.address <= address]
        where = f"{address & (1 << 64) - 1:#x}"
        if before:
            near = before[-1]
            where += f", {address + self.size - near.end} bytes beyond the end of '{near.name}'"
        return f"global memory out of bounds: {self.size} bytes at {where}"

    def _in_region(
        self, region: Region, chunk: Chunk, addresses: Array, lanes: Array, chosen: Array | None
    ) -> Piece:
        context, offsets = chunk.context, addresses - region.address
        if self.is_store and region.read_only:
            message = f"store to the read-only buffer '{region.name}'"
            raise chunk.fault(self.instruction, message, lanes[0])
        if not region.read_only and not self.is_atomic:
            watch = context.watch.store if self.is_store else context.watch.load
            watch(chunk, self.instruction, region, offsets, self.size, lanes)
        if context.counts_traffic:
            traffic = context.traffic.get(self.instruction.name, context.atomics)
            traffic[region.name].add(chunk.warps[lanes], addresses, self.size)
        if self.is_load and region.name in context.byte_counters:
            counters = context.byte_counters[region.name]
            counters[region].add(offsets, self.size)
        start, elements = region.elements(self.width)
        return Piece(elements, (addresses - start) // (self.width // 8), chosen)
