"""Reading a PTX text: its kernels, its device functions and its variables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from .datatypes import WIDTH
from .errors import PtxError
from .program import Program
from .syntax import (
    Function,
    Instruction,
    Label,
    Register,
    Scope,
    Variable,
    parse_variable,
    split_operands,
)

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
_OUTER = re.compile(
    r"\.(?:version|target|address_size|file)\b[^\n]*"
    r"|\.section[^{]*\{[^}]*\}"
    r"|(?P<function>(?:\.(?:visible|extern|weak)\s+)*\.(?P<kind>entry|func)\b[^{;]*)(?P<end>[{;])"
    r"|(?P<variable>(?:\.(?:visible|extern|weak)\s+)*\.(?P<space>global|const|shared)\b[^;]*);"
)
_HEAD = re.compile(
    r"\s*(?:\((?P<returns>[^)]*)\))?\s*(?P<name>[\w$]+)\s*(?:\((?P<params>[^)]*)\))?(?P<rest>.*)",
    re.S,
)
_INNER = re.compile(
    r"(?P<open>\{)|(?P<close>\})|(?P<label>[\w$%.]+)\s*:(?!:)"
    r"|\.(?:loc|file)\b[^\n]*|(?P<statement>[^;\s][^;]*);"
)
_INSTRUCTION = re.compile(r"(?:@(!?)([%\w$]+)\s+)?([\w.:]+)\s*(.*)", re.S)
_FAMILY = re.compile(r"([%\w$]+)<(\d+)>")
_BRACE = re.compile(r"[{}]")


class Kernel:
    """An entry of a module: its name, its parameters and its program, made when first asked for."""

    def __init__(self, module: Module, function: Function) -> None:
        self.module, self.function = module, function
        self.name, self.line, self.params = function.name, function.line, function.params
        self._program: Program | None = None

    @property
    def program(self) -> Program:
        """The kernel and the functions it calls, ready to run; refuses what it cannot run."""
        if self._program is None:
            self._program = Program(self.function, self.module.functions, self.module.variables)
        return self._program


class Module:
    """A PTX text, read once."""

    def __init__(self, text: str | bytes) -> None:
        if isinstance(text, bytes):
            text = text.decode()
        self.functions: dict[str, Function] = {}
        self.variables: list[Variable] = []
        self.scope = Scope()
        # NVRTC ends its text with a zero byte. Lines stay lines: errors name them.
        self._text = _COMMENT.sub(lambda c: "\n" * c[0].count("\n"), text.rstrip("\0"))
        self._read()
        self.kernels: Mapping[str, Kernel] = {
            f.name: Kernel(self, f) for f in self.functions.values() if f.is_kernel
        }

    def unsupported(self) -> list[str]:
        """List every instruction, of any function, that `launch` would refuse."""
        refused = []
        for function in self.functions.values():
            program = Program(function, self.functions, self.variables, strict=False)
            refused += [str(error) for error in program.refused if str(error) not in refused]
        return refused

    def _read(self) -> None:
        position = 0
        while found := _OUTER.search(self._text, position):
            position = found.end()
            if found["variable"]:
                declaration = re.sub(r"^(?:\.\w+\s+)*?\.(?:global|const|shared)", "", found[0][:-1])
                variable = parse_variable(declaration, found["space"])
                self.variables.append(variable)
                self.scope.names[variable.name] = variable
            elif found["function"]:
                line = self._text.count("\n", 0, found.start("kind")) + 1
                function = self._read_head(found["function"], found["kind"] == "entry", line)
                if found["end"] == "{":
                    end = self._closing_brace(found.end())
                    self._read_body(function, found.end(), end)
                    self.functions[function.name] = function
                    position = end + 1

    def _read_head(self, text: str, is_kernel: bool, line: int) -> Function:
        head = _HEAD.match(re.split(r"\.(?:entry|func)\b", text, maxsplit=1)[1])
        if head is None:
            raise PtxError(f"line {line}: cannot read: {text}")
        # A kernel's parameters are the same bytes for all; a function's are a lane's own.
        space = "param" if is_kernel else "local"
        function = Function(head["name"], line, is_kernel, [], [], head["rest"], Scope(self.scope))
        for listed, into in (
            (head["returns"], function.returns),
            (head["params"], function.params),
        ):
            for declaration in split_params(listed or ""):
                variable = parse_variable(declaration, space)
                into.append(variable)
                function.scope.names[variable.name] = variable
        if not is_kernel:
            function.variables += function.returns + function.params
        return function

    def _closing_brace(self, position: int) -> int:
        depth = 1
        for brace in _BRACE.finditer(self._text, position):
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                return brace.start()
        raise PtxError("a brace is never closed")

    def _read_body(self, function: Function, begin: int, end: int) -> None:
        scope = function.scope
        line = self._text.count("\n", 0, begin) + 1
        position = begin
        for found in _INNER.finditer(self._text, begin, end):
            line += self._text.count("\n", position, found.start())
            position = found.start()
            if found["open"]:
                scope = Scope(scope)
            elif found["close"]:
                scope = scope.parent or function.scope
            elif label := found["label"]:
                scope.names[label] = Label(label, len(function.instructions))
            elif statement := found["statement"]:
                if statement[0] == ".":
                    self._declare(function, scope, statement)
                else:
                    function.instructions.append(
                        read_instruction(statement, line, function.name, scope)
                    )

    def _declare(self, function: Function, scope: Scope, statement: str) -> None:
        kind, rest = statement[1:].split(None, 1)
        if kind == "reg":
            type_, names = rest[1:].split(None, 1)
            width = WIDTH.get(type_, 0)  # 0: refused where an instruction names it
            for name in split_operands(names):
                if family := _FAMILY.fullmatch(name):
                    scope.families[family[1]] = int(family[2]), width
                else:
                    scope.names[name] = Register(name, width)
        elif kind in ("shared", "local", "param"):
            # What a call passes is a lane's own, like its local memory.
            variable = parse_variable(rest, "local" if kind == "param" else kind)
            scope.names[variable.name] = variable
            function.variables.append(variable)


def split_params(text: str) -> Iterator[str]:
    """Give each `.param` declaration of a list without the word."""
    for part in text.split(","):
        if part.strip():
            yield part.strip().removeprefix(".param").strip()


def read_instruction(statement: str, line: int, function: str, scope: Scope) -> Instruction:
    """Take one instruction apart."""
    found = _INSTRUCTION.fullmatch(statement)
    if found is None:
        raise PtxError(f"line {line}: cannot read: {statement}")
    negation, guard, opcode, operands = found.groups()
    # L1::no_allocate is one modifier.
    name, *modifiers = opcode.split(".")
    return Instruction(
        line,
        " ".join(statement.split()),
        function,
        scope,
        opcode,
        name,
        tuple(modifiers),
        split_operands(operands),
        guard or "",
        bool(negation),
    )
