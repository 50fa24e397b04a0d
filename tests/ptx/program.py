"""A kernel with all functions it calls, made into basic blocks of Python functions.

The functions stand before their callers, so that lanes inside a call have the lower addresses: the
scheduler runs the lowest first, and they come back before their siblings run on. There is no
recursion; every function keeps its registers and variables at one place in each lane.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from . import (  # noqa: F401  (importing them enters their rules)
    arithmetic,
    atomics,
    bits,
    compare,
    control,
    convert,
    integers,
    loads,
    matrices,
    moves,
    warp,
)
from .datatypes import Array, Execute, Lanes, Reader
from .errors import PtxError
from .operands import Binder
from .registry import find_rule
from .syntax import Function, Instruction, Label, Register, Variable

if TYPE_CHECKING:
    from .chunk import Chunk

# Ends a basic block: gives the next address if all lanes go there, else has sent each its way.
End: TypeAlias = "Callable[[Chunk, Lanes, int], int | None]"


@dataclass(eq=False)
class BasicBlock:
    """Instructions that are always executed one after the other."""

    steps: list[Execute]
    opcodes: list[str]
    end: End | None  # None: goes on with the next block
    next: int


class Program:
    """The code of a kernel by address, and where its names are kept."""

    def __init__(
        self,
        kernel: Function,
        functions: dict[str, Function],
        module_variables: list[Variable],
        strict: bool = True,
    ) -> None:
        self.kernel, self.functions = kernel, functions
        self.refused: list[PtxError] = []
        self._strict = strict
        self._slots: dict[Register, int] = {}
        self.slot_widths: list[int] = []
        self._offsets: dict[Variable, int] = {}
        self._pcs: dict[str, list[int]] = {}
        self._order: list[Function] = []
        self._visit(kernel, ())
        self._place_variables(module_variables)
        self.code: list[Instruction] = []
        self._place_instructions()
        self.entry = self._pcs[kernel.name][0]
        self.blocks: dict[int, BasicBlock] = {}
        self._make_blocks()

    # -- what instructions ask for -------------------------------------------------------------

    def slot(self, register: Register) -> int:
        """Give the place of a register among those of the program."""
        if register not in self._slots:
            self._slots[register] = len(self.slot_widths)
            self.slot_widths.append(register.width)
        return self._slots[register]

    def offset(self, variable: Variable) -> int:
        """Give the place of a variable within its state space."""
        return self._offsets[variable]

    def address_reader(self, variable: Variable, type_: type[Any]) -> Reader:
        """Read the address of a variable: within its state space, or on the host if global."""
        if variable.space in ("global", "const"):
            return lambda chunk, lanes: np.array([chunk.memory.address_of(variable)], type_)
        constant = np.array([self._offsets[variable]], type_)
        return lambda chunk, lanes: constant

    def target(self, binder: Binder, name: str) -> int:
        """Give the address of a label."""
        label = binder.symbol(name)
        if not isinstance(label, Label):
            raise binder.instruction.unsupported(f"{name} is no label")
        return self._pcs[binder.instruction.function][label.position]

    def entry_of(self, function: str) -> int:
        """Give the address of a function."""
        return self._pcs[function][0]

    # -- making it -----------------------------------------------------------------------------

    def _visit(self, function: Function, callers: tuple[Function, ...]) -> None:
        if function in callers:
            raise PtxError(f"function {function.name} calls itself, which is unsupported")
        if function in self._order:
            return
        for instruction in function.instructions:
            if instruction.name == "call":
                callee = next((o for o in instruction.operands if o in self.functions), None)
                if callee is not None:
                    self._visit(self.functions[callee], (*callers, function))
        self._order.append(function)

    def _place_variables(self, module_variables: list[Variable]) -> None:
        used = {"shared": 0, "local": 0, "param": 0}
        variables = [v for v in module_variables if v.space == "shared"]
        variables += self.kernel.params if self.kernel.is_kernel else []
        variables += [v for function in self._order for v in function.variables]
        # Dynamic shared memory begins where the rest ends.
        for variable in sorted(variables, key=lambda v: v.is_dynamic):
            align = max(variable.align, 16 if variable.is_dynamic else 1)
            self._offsets[variable] = -(-used[variable.space] // align) * align
            used[variable.space] = self._offsets[variable] + variable.size
        self.static_shared, self.local_size = used["shared"], -(-used["local"] // 16) * 16
        self.param_size = used["param"]

    def _place_instructions(self) -> None:
        for function in self._order:
            self._pcs[function.name] = []
            for instruction in function.instructions:
                self._pcs[function.name].append(len(self.code))
                self.code.append(instruction)
                if control.has_second_step(instruction):
                    self.code.append(instruction)
            self._pcs[function.name].append(len(self.code))
            self.code.append(_final_return(function))

    def _make_blocks(self) -> None:
        made: list[tuple[Execute | End, bool]] = []
        leaders = {self.entry_of(function.name) for function in self._order}
        is_second = False
        for pc, instruction in enumerate(self.code):
            try:
                made.append(self._bind(instruction, is_second))
            except PtxError as error:
                if self._strict:
                    raise
                self.refused.append(error)
                made.append((_nothing, False))
            is_second = control.has_second_step(instruction) and not is_second
            if made[-1][1]:
                leaders |= {pc + 1}
                # A wait is entered again by the lanes that wait in it.
                leaders |= {pc} if instruction.name in control.WAITING else set()
            if instruction.name == "bra" and made[-1][1]:
                leaders.add(self.target(Binder(instruction, self), instruction.operands[0]))
        starts = sorted(leaders)
        for start, stop in zip(starts, [*starts[1:], len(self.code)], strict=True):
            steps: list[Any] = [step for step, _ in made[start:stop]]
            opcodes = [instruction.opcode for instruction in self.code[start:stop]]
            end = steps.pop() if stop > start and made[stop - 1][1] else None
            self.blocks[start] = BasicBlock(steps, opcodes, end, stop)

    def _bind(self, instruction: Instruction, is_second: bool) -> tuple[Execute | End, bool]:
        binder = Binder(instruction, self)
        found = find_rule(instruction)
        ends_block = found.ends_block and not is_second
        run: Any = control.bind_second_step(binder) if is_second else found.build(binder)
        if instruction.guard:
            guard = binder.predicate("!" * instruction.guard_negated + instruction.guard)
            run = _guard_end(run, guard) if ends_block else _guard(run, guard)
        return run, ends_block


def _final_return(function: Function) -> Instruction:
    return Instruction(function.line, "ret", function.name, function.scope, "ret", "ret", (), ())


def _nothing(chunk: Chunk, lanes: Lanes) -> None:
    """Stand for an instruction that was refused."""


def _chosen(chunk: Chunk, lanes: Lanes, choice: Array) -> Array:
    return chunk.lanes(lanes)[choice]


def _guard(run: Execute, guard: Reader) -> Execute:
    def run_guarded(chunk: Chunk, lanes: Lanes) -> None:
        choice = guard(chunk, lanes)
        if choice.all():
            run(chunk, lanes)
        elif choice.any():
            run(chunk, _chosen(chunk, lanes, choice))

    return run_guarded


def _guard_end(run: End, guard: Reader) -> End:
    def run_guarded(chunk: Chunk, lanes: Lanes, pc: int) -> int | None:
        choice = guard(chunk, lanes)
        if choice.all():
            return run(chunk, lanes, pc)
        if not choice.any():
            return pc + 1
        chunk.pc[_chosen(chunk, lanes, ~choice)] = pc + 1
        taken = _chosen(chunk, lanes, choice)
        target = run(chunk, taken, pc)
        if target is not None:
            chunk.pc[taken] = target
        return None

    return run_guarded
