"""Global memory: host memory that kernels may touch, at its own addresses."""

from __future__ import annotations

import bisect
import ctypes
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .datatypes import Array, unsigned
from .errors import PtxError

if TYPE_CHECKING:
    from .syntax import Variable


@dataclass(eq=False)
class Region:
    """A stretch of host memory with a name."""

    name: str
    address: int
    content: Array  # its bytes
    read_only: bool
    _views: dict[int, tuple[int, Array]] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + len(self.content)

    def elements(self, width: int) -> tuple[int, Array]:
        """See the region as numbers of so many bits; the first lies at the address given with."""
        if width not in self._views:
            size = width // 8
            first = -self.address % size
            count = max(0, len(self.content) - first) // size
            view = self.content[first : first + count * size].view(unsigned(width))
            self._views[width] = self.address + first, view
        return self._views[width]


class Memory:
    """The buffers of a launch. A stray address may hit another buffer, but nothing unmapped."""

    def __init__(self) -> None:
        self.regions: list[Region] = []  # by address
        self.names: set[str] = set()
        self._starts: list[int] = []
        self._kept: list[Any] = []  # what the regions point into
        self._variables: dict[Variable, int] = {}

    def map(self, array: Array, name: str = "buffer", read_only: bool = False) -> int:
        """Let kernels work on an array in place; gives its address."""
        if not array.flags.c_contiguous:
            raise PtxError(f"buffer '{name}' cannot be mapped: it is not C-contiguous")
        self._kept.append(array)
        return self.map_address(array.ctypes.data, array.nbytes, name, read_only)

    def map_address(
        self, address: int, nbytes: int, name: str = "buffer", read_only: bool = False
    ) -> int:
        """Let kernels work on any host memory; the caller keeps it alive."""
        self.names.add(name)
        if nbytes == 0:
            return address
        at = bisect.bisect_right(self._starts, address)
        for other in self.regions[max(0, at - 1) : at + 1]:
            if other.address < address + nbytes and address < other.end:
                raise PtxError(f"buffer '{name}' cannot be mapped: it overlaps '{other.name}'")
        content = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))
        self.regions.insert(at, Region(name, address, content, read_only))
        self._starts.insert(at, address)
        return address

    def find(self, address: int) -> Region | None:
        """Give the region that holds an address."""
        at = bisect.bisect_right(self._starts, address) - 1
        if at < 0 or address >= self.regions[at].end:
            return None
        return self.regions[at]

    def address_of(self, variable: Variable) -> int:
        """Give the address of a module's variable; it is made, and set, when first asked for."""
        if variable not in self._variables:
            # numpy aligns to 16 bytes; more is made by leaving out the first bytes.
            room = np.zeros(variable.size + variable.align, np.uint8)
            first = -room.ctypes.data % variable.align
            content = room[first : first + variable.size]
            content[: len(variable.initial)] = np.frombuffer(variable.initial, np.uint8)
            read_only = variable.space == "const"
            self._variables[variable] = self.map(content, variable.name, read_only)
        return self._variables[variable]
