"""Describe an instruction of machine code by its text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hardware.gpus import pipe_of

_REGISTER = re.compile(r"(?<![A-Z])R(\d+)")
_WIDTHS = {"256": 32, "128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}


@dataclass(frozen=True)
class Instruction:
    """Describes one instruction.

    Attributes:
        address: bytes from the start of the kernel.
        predicate: such as "!P0" or "UP1"; empty where it always runs.
        opcode: with its modifiers, such as "LDG.E.128".
        operands: as printed.
    """

    address: int
    predicate: str
    opcode: str
    operands: str

    @property
    def name(self) -> str:
        """Return the opcode without its modifiers."""
        return self.opcode.split(".")[0]

    @property
    def modifiers(self) -> Sequence[str]:
        """Return what follows the opcode's name."""
        return self.opcode.split(".")[1:]

    @property
    def pipe(self) -> str:
        """Return the execution pipe, as `gpus.pipe_of` says."""
        return pipe_of(self.opcode)

    @property
    def global_bytes(self) -> int:
        """Return the bytes that a thread loads from global memory, except volatile ones."""
        if self.name not in ("LDG", "LDGSTS") or "STRONG" in self.modifiers:
            return 0
        return next((_WIDTHS[m] for m in self.modifiers if m in _WIDTHS), 4)

    @property
    def target(self) -> int | None:
        """Return where a branch goes; None for any other instruction."""
        numbers = re.findall(r"0x[0-9a-f]+", self.operands) if self.name in ("BRA", "JMP") else ()
        return int(numbers[-1], 16) if numbers else None

    @property
    def always_leaves(self) -> bool:
        """Return whether the next instruction is never reached from here."""
        if self.predicate or self.name not in ("BRA", "JMP", "BRX", "JMX", "EXIT", "RET", "KILL"):
            return False
        # BRA.DIV, BRA.CONV and BRA.U have their condition among the operands.
        return self.target is None or "," not in self.operands

    @property
    def registers(self) -> frozenset[int]:
        """Return the registers named, whether read or written."""
        return frozenset(int(n) for n in _REGISTER.findall(self.operands))

    @property
    def loaded(self) -> frozenset[int]:
        """Return the registers that a load from global memory fills."""
        if self.name != "LDG":
            return frozenset()
        # A 32-byte load names two registers, each the first of four.
        before = self.operands.split("[")[0].split("desc")[0]
        first = [int(n) for n in _REGISTER.findall(before)]
        each = max(1, (self.global_bytes or 4) // 4 // max(1, len(first)))
        return frozenset(r for start in first for r in range(start, start + each))

    def __str__(self) -> str:
        predicate = f"@{self.predicate} " if self.predicate else ""
        return f"/*{self.address:04x}*/ {predicate}{self.opcode} {self.operands}".rstrip()
