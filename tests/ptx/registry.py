"""The table of instructions: what each rule takes, and how it makes an instruction runnable.

A rule names its instructions, the types that may stand last and every other modifier it honours.
An instruction with anything more is refused, so that no modifier is ever silently ignored. To add
an instruction, write its rule in the file of its kind and import that file in `program.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from .operands import Binder
from .syntax import Instruction

# Makes an instruction runnable: an Execute, or an End for a rule that ends its basic block.
Build: TypeAlias = Callable[[Binder], Any]
AnyBuild = TypeVar("AnyBuild", bound=Build)


@dataclass(frozen=True)
class Rule:
    """How one form of an instruction is run."""

    types: frozenset[str]
    modifiers: frozenset[str]
    build: Build
    ends_block: bool

    def takes(self, instruction: Instruction) -> bool:
        """Tell whether every modifier is one that this rule honours."""
        modifiers = instruction.modifiers
        if "" not in self.types:
            if not modifiers or modifiers[-1] not in self.types:
                return False
            modifiers = modifiers[:-1]
        return self.modifiers.issuperset(modifiers)


RULES: dict[str, list[Rule]] = {}


def rule(
    names: str, types: Iterable[str] = ("",), modifiers: str = "", *, ends_block: bool = False
) -> Callable[[AnyBuild], AnyBuild]:
    """Enter a rule; the type "" is for instructions that end with no type."""

    def enter(build: AnyBuild) -> AnyBuild:
        made = Rule(frozenset(types), frozenset(modifiers.split()), build, ends_block)
        for name in names.split():
            RULES.setdefault(name, []).append(made)
        return build

    return enter


def find_rule(instruction: Instruction) -> Rule:
    """Give the first rule that takes an instruction, or refuse it."""
    for candidate in RULES.get(instruction.name, ()):
        if candidate.takes(instruction):
            return candidate
    raise instruction.unsupported()
