"""A place tells where in a model's code an operation is called.

It is the module whose forward pass calls the operation, and the lines in between: a loop calls the
operation at one place, and the same line in another block is another place. Both are read from the
frames of Python.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator, Sequence
from types import CodeType, FrameType
from typing import NamedTuple

import torch.nn as nn

MODULE_CALL = nn.Module._call_impl.__code__
# What torch calls between the code of a module and an operation.
_PASSED_OVER = (
    "torch.nn.functional",
    "torch.nn.modules.module",
    "torch.overrides",
    "torch._tensor",
    "torch.functional",
    "torch._jit_internal",
    "torch._ops",
    "torch.utils._contextlib",
    "torch._dynamo.eval_frame",  # runs what is not to be compiled, as activation checkpointing is
    "fmstats.",
)
# What calls operations of its own to make a graph.
_COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch", "torch.fx", "torch._export")

# Where torch keeps modules that are made of others.
_BLOCKS = ("torch.nn.modules.container", "torch.nn.modules.transformer")

_MOST_KNOWN = 100_000  # code objects, and calls in them

# The file, the line and, from Python 3.11, the columns: of `a + b + c` the first sum ends before
# the second.
Line = tuple[str, int, int, int]


def number_of(module: nn.Module) -> int:
    """Return a number of a module that the replicas which `nn.DataParallel` makes of it share."""
    return id(module._forward_hooks)  # the dict, which is not copied


class Place(NamedTuple):
    """A place of an operation.

    Attributes:
        module: whose forward pass calls it.
        calls: the lines of the calls in between, innermost first.
    """

    module: nn.Module
    calls: tuple[Line, ...]


def find_place() -> Place | None:
    """Return the place that Python is at.

    None outside of all modules, within a compiler, and in the layers of torch itself, which are
    measured as a whole.
    """
    calls: list[Line] = []
    for frame in _frames():
        code = frame.f_code
        if code is MODULE_CALL:
            return Place(frame.f_locals["self"], tuple(calls))
        kind = _kind_of(frame)
        if kind in ("compiler", "layer"):
            return None
        if kind == "model":
            calls.append(line_of(code, frame.f_lasti))
    return None


def cut_lines(module: nn.Module, lines: Sequence[Line]) -> tuple[Line, ...]:
    """Return the lines within the forward pass of a module, of those that lead to an operation.

    Args:
        module: that calls it.
        lines: innermost first.
    """
    code = getattr(type(module).forward, "__code__", None)
    kept = []
    for line in lines:
        if not _is_of_torch(line[0]):
            kept.append(line)
        if code is not None and line[0] == code.co_filename and _is_within(line[1], code):
            break
    return tuple(kept)


def _is_within(line: int, code: CodeType) -> bool:
    return any(line == known for _, _, known in code.co_lines())


def _is_of_torch(file: str) -> bool:
    name = file.removesuffix(".py").replace("\\", "/").partition("/torch/")[2].replace("/", ".")
    return is_passed_over(f"torch.{name}")


def modules_around() -> Iterator[nn.Module]:
    """Yield the modules whose forward passes run at this time in this thread, innermost first."""
    for frame in _frames():
        if frame.f_code is MODULE_CALL:
            yield frame.f_locals["self"]


def runs_compiled() -> bool:
    """Tell whether `torch.compile` calls the code that runs, and is not told to run it as it is."""
    eval_frame = sys.modules.get("torch._dynamo.eval_frame")
    if eval_frame is None or eval_frame._stance.stance == "force_eager":
        return False
    # The functions that `torch.compiler.disable` makes, as that of activation checkpointing.
    eager = eval_frame.DisableContext.__call__.__code__.co_consts
    around = (frame.f_code for frame in _frames() if frame.f_globals is vars(eval_frame))
    return any(not any(code is known for known in eager) for code in around)


def is_passed_over(name: str) -> bool:
    """Tell whether the code of the Python module `name` is no place of its own."""
    return name.startswith(_PASSED_OVER)


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


_kinds: dict[int, tuple[CodeType, str]] = {}  # by the numbers of code objects, which it keeps
_lines: dict[tuple[int, int], tuple[CodeType, Line]] = {}


def _kind_of(frame: FrameType) -> str:
    code = frame.f_code
    known = _kinds.get(id(code))
    if known is None or known[0] is not code:
        name = str(frame.f_globals.get("__name__", ""))
        if is_passed_over(name):
            kind = "torch"
        elif name.startswith(_COMPILERS):
            kind = "compiler"
        elif name.startswith("torch.nn.modules.") and name not in _BLOCKS:
            kind = "layer"
        else:
            kind = "model"
        if len(_kinds) >= _MOST_KNOWN:  # of code that is made anew again and again
            _kinds.clear()
        known = _kinds[id(code)] = code, kind
    return known[1]


def line_of(code: CodeType, offset: int) -> Line:
    """Return where in its file the instruction stands that is at an offset of a code object."""
    known = _lines.get((id(code), offset))
    if known is None or known[0] is not code:
        if len(_lines) >= _MOST_KNOWN:
            _lines.clear()
        known = _lines[id(code), offset] = code, _read_line(code, offset)
    return known[1]


def _read_line(code: CodeType, offset: int) -> Line:
    if sys.version_info >= (3, 11):
        for number, (line, last, column, end) in enumerate(code.co_positions()):
            if 2 * number == offset:
                if last != line:  # as tracebacks mark it
                    end = len(linecache.getline(code.co_filename, line or 0).rstrip())
                return code.co_filename, line or 0, column or 0, end or 0
    else:
        for start, end, line in code.co_lines():
            if start <= offset < end:
                return code.co_filename, line or 0, 0, 0
    return code.co_filename, 0, 0, 0
