"""What all blocks of a launch have in common."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from .datatypes import Array
from .memory import Memory, Region
from .program import Program
from .races import GlobalWatch
from .traffic import ByteCounter, Traffic


@dataclass(eq=False)
class Context:
    """A launch: its shape, its arguments, and what is noticed on the way."""

    program: Program
    memory: Memory
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    params: Array  # the bytes of all parameters
    dynamic_shared: int
    counts_traffic: bool
    max_steps: int
    loads: dict[str, Traffic] = field(default_factory=lambda: defaultdict(Traffic))
    stores: dict[str, Traffic] = field(default_factory=lambda: defaultdict(Traffic))
    atomics: dict[str, Traffic] = field(default_factory=lambda: defaultdict(Traffic))
    byte_counters: dict[str, dict[Region, ByteCounter]] = field(default_factory=dict)
    found: dict[tuple[str, int], str] = field(default_factory=dict)
    found_count: Counter[tuple[str, int]] = field(default_factory=Counter)
    visits: Counter[int] = field(default_factory=Counter)  # of basic blocks, by warps
    steps: int = 0

    def __post_init__(self) -> None:
        self.threads = int(np.prod(self.block))  # of a block
        self.blocks = int(np.prod(self.grid))
        self.shared_size = -(-(self.program.static_shared + self.dynamic_shared) // 16) * 16
        self.watch = GlobalWatch(self.threads, self.blocks)
        self.traffic = {"ld": self.loads, "st": self.stores}
