"""Operands made into functions that read and write them, once for each instruction.

A reader gives one value for each executing lane, or a single one that stands for all (constants):
numpy broadcasts it. It may give the register itself, so nobody writes into what a reader gave.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from .datatypes import FLOATS, SIGNED, WIDTH, Array, Lanes, Reader, Writer, signed, unsigned
from .floats import decode
from .syntax import Instruction, Label, Register, Variable, parse_literal

if TYPE_CHECKING:
    from .chunk import Chunk
    from .program import Program

_SPECIAL = re.compile(
    r"%(?:(?:n?tid|n?ctaid)\.[xyz]|laneid|warpid|nwarpid|smid|nsmid|gridid"
    r"|lanemask_(?:eq|lt|le|gt|ge)|dynamic_smem_size|total_smem_size|clock|clock64|globaltimer)"
)
_ADDRESS = re.compile(r"\[\s*([^+\s\]]+)\s*(?:\+\s*(-?\w+))?\s*\]")


class Binder:
    """An instruction and the program it belongs to: what its operands stand for."""

    def __init__(self, instruction: Instruction, program: Program) -> None:
        self.instruction, self.program = instruction, program
        self.operands = instruction.operands
        self.modifiers = instruction.modifiers
        self.name, self.type = instruction.name, instruction.type

    def has(self, modifier: str) -> bool:
        """Tell whether the instruction has a modifier."""
        return modifier in self.modifiers

    def symbol(self, name: str) -> Register | Variable | Label | None:
        """Look up a name where the instruction stands."""
        return self.instruction.scope.find(name)

    def register(self, name: str) -> Register:
        """Look up a name that must be a register."""
        found = self.symbol(name)
        if not isinstance(found, Register) or not found.width:
            raise self.instruction.unsupported(f"{name} is no register of a known type")
        return found

    def bits(self, operand: str, width: int) -> Reader:
        """Read an operand as raw bits of a width; a wider register gives its lower bits."""
        found = self.symbol(operand)
        if isinstance(found, Register):
            return self._register_bits(self.register(operand), width)
        if isinstance(found, Variable):
            return self.program.address_reader(found, unsigned(width))
        literal = parse_literal(operand, width)
        if literal is not None:
            constant = np.array([literal], unsigned(width))
            return lambda chunk, lanes: constant
        if _SPECIAL.fullmatch(operand):
            type_ = unsigned(width)

            def read_special(chunk: Chunk, lanes: Lanes) -> Array:
                values = chunk.special(operand).astype(type_)
                return values if lanes is None or len(values) == 1 else values[lanes]

            return read_special
        raise self.instruction.unsupported(f"operand {operand}")

    def _register_bits(self, register: Register, width: int) -> Reader:
        slot = self.program.slot(register)
        if register.width < width:
            raise self.instruction.unsupported(f"{register.name} has {register.width} bits")
        narrowed = None if register.width == width else unsigned(width)

        def read(chunk: Chunk, lanes: Lanes) -> Array:
            values = chunk.registers[slot]
            if values is None:
                values = chunk.make_register(slot)
            if lanes is not None:
                values = values[lanes]
            return values if narrowed is None else values.astype(narrowed)

        return read

    def value(self, operand: str, type_: str) -> Reader:
        """Read an operand as numbers of its type; halves as float32, which holds them exactly."""
        read = self.bits(operand, WIDTH[type_])
        if type_ in FLOATS:
            return lambda chunk, lanes: decode(read(chunk, lanes), type_)
        if type_ in SIGNED:
            number = signed(WIDTH[type_])
            return lambda chunk, lanes: read(chunk, lanes).view(number)
        return read

    def values(self, *operands: str, type_: str | None = None) -> list[Reader]:
        """Read several operands as numbers of a type, or of the instruction's."""
        return [self.value(operand, type_ or self.type) for operand in operands]

    def predicate(self, operand: str) -> Reader:
        """Read a predicate, `!` before it negating it."""
        name = operand.lstrip("!").strip()
        literal = parse_literal(name, 1)
        if literal is not None:
            constant = np.array([bool(literal) != operand.startswith("!")])
            return lambda chunk, lanes: constant
        if self.register(name).width != 1:
            raise self.instruction.unsupported(f"{name} is no predicate")
        slot, negated = self.program.slot(self.register(name)), operand.startswith("!")

        def read(chunk: Chunk, lanes: Lanes) -> Array:
            values = chunk.registers[slot]
            if values is None:
                values = chunk.make_register(slot)
            if lanes is not None:
                values = values[lanes]
            return ~values if negated else values

        return read

    def writer(self, operand: str, type_: str | None = None) -> Writer:
        """Write an operand; into a wider register, numbers are extended as their type says.

        The array given must be new: the register keeps it.
        """
        if operand == "_":
            return lambda chunk, lanes, values: None
        register = self.register(operand)
        slot = self.program.slot(register)
        type_ = type_ or self.type
        if WIDTH[type_] > register.width:
            raise self.instruction.unsupported(f"{operand} has {register.width} bits")
        raw = np.dtype(bool if register.width == 1 else unsigned(WIDTH[type_]))
        number = signed(WIDTH[type_]) if type_ in SIGNED else raw
        full = np.dtype(bool if register.width == 1 else unsigned(register.width))
        is_wider = register.width > WIDTH[type_]

        def write(chunk: Chunk, lanes: Lanes, values: Array) -> None:
            if values.dtype != full:
                values = values.view(number)
                values = values.astype(full) if is_wider else values.view(full)
            if lanes is not None:
                kept = chunk.registers[slot]
                if kept is None:
                    kept = chunk.make_register(slot)
                kept[lanes] = values
            elif len(values) == chunk.size:
                chunk.registers[slot] = values
            else:
                chunk.registers[slot] = np.repeat(values, chunk.size)

        return write

    def destinations(self, operand: str) -> list[str]:
        """Split `%p1|%p2`."""
        return [name.strip() for name in operand.split("|")]

    def vector(self, operand: str) -> list[str]:
        """Split `{%r1, %r2}`; anything else is a vector of one."""
        if operand.startswith("{"):
            return [name.strip() for name in operand[1:-1].split(",")]
        return [operand]

    def address_symbol(self, operand: str) -> Variable | None:
        """Give the variable that an address `[name+4]` names, if it names one."""
        found = _ADDRESS.fullmatch(operand)
        variable = self.symbol(found[1]) if found else None
        return variable if isinstance(variable, Variable) else None

    def address(self, operand: str) -> Reader:
        """Read an address `[base+offset]` as int64."""
        found = _ADDRESS.fullmatch(operand)
        if found is None:
            raise self.instruction.unsupported(f"address {operand}")
        base, offset = found[1], int(found[2] or "0", 0)
        symbol = self.symbol(base)
        if isinstance(symbol, Register):
            read, mask = self.bits(base, symbol.width), 0xFFFFFFFF if symbol.width == 32 else 0
        else:
            read, mask = self.bits(base, 64), 0

        def read_address(chunk: Chunk, lanes: Lanes) -> Array:
            addresses = read(chunk, lanes).astype(np.int64)
            if not offset:
                return addresses
            # A register of 32 bits may hold a negative number that the offset makes up for.
            return (addresses + offset) & mask if mask else addresses + offset

        return read_address
