"""What a PTX text is made of: instructions, names and the scopes in which names are known."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .datatypes import WIDTH
from .errors import PtxError


@dataclass(eq=False)
class Register:
    """A name for one value in each lane."""

    name: str
    width: int


@dataclass(eq=False)
class Variable:
    """A name for bytes in memory: of a kernel, of a block, of a lane or a parameter."""

    name: str
    space: str
    size: int
    align: int
    element: str = "b8"
    initial: bytes = b""
    is_dynamic: bool = False  # extern shared memory, whose size the launch decides


@dataclass(eq=False)
class Label:
    """A place among the instructions of its function."""

    name: str
    position: int


@dataclass(eq=False)
class Scope:
    """The names between a pair of braces; what it does not know, its parent may."""

    parent: Scope | None = None
    names: dict[str, Register | Variable | Label] = field(default_factory=dict)
    families: dict[str, tuple[int, int]] = field(default_factory=dict)  # %r<9>: count, width

    def find(self, name: str) -> Register | Variable | Label | None:
        """Look a name up from here outwards; a register of a family is made when first named."""
        scope: Scope | None = self
        stem = name.rstrip("0123456789")
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            if stem != name and stem in scope.families:
                count, width = scope.families[stem]
                if int(name[len(stem) :]) < count:
                    scope.names[name] = Register(name, width)
                    return scope.names[name]
            scope = scope.parent
        return None


@dataclass(eq=False)
class Instruction:
    """One statement, e.g. `@!%p1 ld.global.nc.v2.u32 {%r1, %r2}, [%rd1+8];`."""

    line: int
    text: str
    function: str
    scope: Scope
    opcode: str  # ld.global.nc.v2.u32
    name: str  # ld
    modifiers: tuple[str, ...]  # global, nc, v2, u32
    operands: tuple[str, ...]  # {%r1, %r2} and [%rd1+8]
    guard: str = ""  # %p1
    guard_negated: bool = False

    @property
    def type(self) -> str:
        """The last modifier, which for most instructions is the type of their operands."""
        return self.modifiers[-1] if self.modifiers else ""

    def one_of(self, *choices: str) -> str:
        """Give the modifier that is one of these, or nothing."""
        return next((m for m in self.modifiers if m in choices), "")

    def unsupported(self, why: str = "") -> PtxError:
        """Give the error that refuses this instruction."""
        reason = f" ({why})" if why else ""
        return PtxError(f"line {self.line}: unsupported instruction{reason}: {self.text}")


@dataclass(eq=False)
class Function:
    """A kernel or a device function."""

    name: str
    line: int
    is_kernel: bool
    returns: list[Variable]
    params: list[Variable]
    attributes: str
    scope: Scope
    instructions: list[Instruction] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)  # shared, local and call parameters


_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|[^,{}\[\]()]+")
_VARIABLE = re.compile(r"\.(\w+)\s+([\w$%]+)\s*((?:\[\s*\d*\s*\]\s*)*)(?:=\s*(.*))?$", re.S)
_ALIGN = re.compile(r"\.align\s+(\d+)")
_POINTEE = re.compile(r"\.ptr\b(?:\s+\.(?:global|shared|const|local)\b)?")


def split_operands(text: str) -> tuple[str, ...]:
    """Split at the commas outside of brackets."""
    parts = (part.strip() for part in _OPERAND.findall(text))
    return tuple(part for part in parts if part)


def parse_literal(text: str, width: int) -> int | None:
    """Read a number as the bits of a width, or None: it is a name."""
    if text[:2] in ("0f", "0F") and len(text) == 10:
        return int(text[2:], 16)
    if text[:2] in ("0d", "0D") and len(text) == 18:
        return int(text[2:], 16)
    if not (text[0].isdigit() or text[0] == "-"):
        return None
    digits = text.rstrip("U")
    is_octal = re.fullmatch(r"-?0[0-7]+", digits)
    try:
        return int(digits, 8 if is_octal else 0) & ((1 << width) - 1)
    except ValueError:
        return None


def parse_variable(text: str, space: str) -> Variable:
    """Read `.align 4 .b8 name[12] = {1, 2}`, without the state space in front of it."""
    align = _ALIGN.search(text)
    found = _VARIABLE.search(_POINTEE.sub("", _ALIGN.sub("", text)))
    if found is None or found[1] not in WIDTH:
        raise PtxError(f"unsupported declaration: .{space} {text}")
    element, name, dimensions, values = found.groups()
    width = WIDTH[element]
    size, is_dynamic = width // 8, False
    for length in re.findall(r"\[\s*(\d*)\s*\]", dimensions):
        is_dynamic |= not length
        size *= int(length or 0)
    initial = b""
    for value in split_operands((values or "").replace("{", "").replace("}", "")):
        bits = parse_literal(value, width)
        if bits is None:
            raise PtxError(f"unsupported initial value {value}: .{space} {text}")
        initial += bits.to_bytes(width // 8, "little")
    return Variable(
        name, space, size, int(align[1]) if align else width // 8, element, initial, is_dynamic
    )
