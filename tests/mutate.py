"""Change the meaning of a module in one place at a time, and see whether its tests notice.

    python tests/mutate.py fmstats/profiles/merging.py tests/test_merging.py

Each mutant is one small change: a comparison that is turned or moved by its bound, `and` for `or`,
a condition negated, an operator or a number replaced, a statement or a result left out. The tests
run against it in a copy of the tree, so the checkout stays as it is. A mutant that no test notices
is printed: it calls for a test, or its line is not needed, or it changes nothing that matters.

The process imports torch and pytest once, and each mutant runs in a fork of it.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("fmstats", "tests", "benchmarks", "docs", "csrc", "pyproject.toml", "README.md")
PRELOADED = ("torch", "numpy", "pytest", "safetensors.torch")

COMPARISONS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
OPERATORS = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "amin": "amax", "amax": "amin"}


@dataclass(frozen=True)
class Mutant:
    """One change of a source: the text from `start` to `stop` becomes `new`."""

    start: int
    stop: int
    new: str
    line: int

    def apply(self, source: str) -> str:
        """The source with the change."""
        return source[: self.start] + self.new + source[self.stop :]

    def describe(self, source: str) -> str:
        """The line before and after, or the first of several."""
        first = source.rfind("\n", 0, self.start) + 1
        last = source.find("\n", self.stop)
        before = source[first:last].strip()
        after = self.apply(source)[first : last + len(self.new) - (self.stop - self.start)].strip()
        return f"line {self.line}: {_one_line(before)}  ->  {_one_line(after) or 'nothing'}"


def mutants_of(source: str) -> list[Mutant]:
    """Every mutant of a Python source, in the order of its lines."""
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    return sorted(set(finder.found), key=lambda m: (m.start, m.stop, m.new))


class _Finder(ast.NodeVisitor):
    def __init__(self, source: str) -> None:
        self.source, self.found = source, list[Mutant]()
        # ast counts columns in bytes of UTF-8.
        self._lines = source.splitlines(keepends=True)
        self._begins = [0]
        for line in self._lines:
            self._begins.append(self._begins[-1] + len(line))

    def _at(self, line: int, column: int) -> int:
        prefix = self._lines[line - 1].encode()[:column].decode()
        return self._begins[line - 1] + len(prefix)

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._at(node.lineno, node.col_offset),
            self._at(node.end_lineno, node.end_col_offset),
        )

    def _add(self, node: ast.expr | ast.stmt, start: int, stop: int, new: str) -> None:
        self.found.append(Mutant(start, stop, new, node.lineno))

    def _replace(self, node: ast.expr | ast.stmt, new: str) -> None:
        self._add(node, *self._span(node), new)

    def _swap_between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> None:
        """Replace an operator that stands between two operands."""
        start, stop = self._span(left)[1], self._span(right)[0]
        at = self.source.find(old, start, stop)
        if at >= 0:
            self._add(left, at, at + len(old), new)

    def _negate(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare | ast.UnaryOp | ast.Constant):
            start, stop = self._span(test)
            self._add(test, start, stop, f"(not ({self.source[start:stop]}))")

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for (left, right), operator in zip(pairwise(operands), node.ops, strict=True):
            self._swap_between(left, right, *COMPARISONS[type(operator)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        words = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            self._swap_between(left, right, *words)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in OPERATORS:
            self._swap_between(node.left, node.right, *OPERATORS[type(node.op)])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not | ast.USub | ast.Invert):
            start, stop = self._span(node.operand)
            self._add(node, self._span(node)[0], stop, self.source[start:stop])
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else None
        name = node.func.id if isinstance(node.func, ast.Name) else name
        if name in CALLS:
            stop = self._span(node.func)[1]
            self._add(node, stop - len(name), stop, CALLS[name])
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self._negate(node.test)
            self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._negate(test)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace(node, str(not node.value))
        elif isinstance(node.value, int | float):
            self._replace(node, f"({node.value!r} + 1)")

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not isinstance(node.value, ast.Constant):
            self._replace(node, "return None")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call | ast.Await):
            self._replace(node, "pass")
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if all(isinstance(t, ast.Attribute | ast.Subscript) for t in node.targets):
            self._replace(node, "pass")
        if not any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._replace(node, "pass")
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        """An annotation means nothing at run time."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for part in (node.args, *node.body):
            self.visit(part)

    def visit_Raise(self, node: ast.Raise) -> None:
        """An error raised is a change of its condition; its words are for golden tests."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Words, as above."""


class _Workshop:
    """A copy of the tree in which mutants of one file are run."""

    def __init__(self, folder: Path, file: Path, tests: list[str], limit: float | None) -> None:
        self.folder, self.file, self.tests, self.limit = folder, folder / file, tests, limit
        self.log = folder / "log.txt"
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)

    def survives(self, source: str) -> bool:
        """Whether all tests pass, within the time limit, with this source of the file."""
        self.file.write_text(source)
        child = os.fork()
        if child == 0:
            self._run_tests()
        began = time.monotonic()
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status == 0
            if self.limit is not None and time.monotonic() - began > self.limit:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return False
            time.sleep(0.05)

    def _run_tests(self) -> None:
        """Run the tests in this process, a fork, and end it with their exit code."""
        code = 3
        try:
            import pytest

            os.setsid()  # so that what a test starts ends with it
            os.chdir(self.folder)
            os.environ["PYTHONPATH"] = str(self.folder)
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            sys.dont_write_bytecode = True
            others = [p for p in sys.path if not Path(p or ".").resolve().is_relative_to(ROOT)]
            sys.path[:] = [str(self.folder), *others, *_site_packages()]
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *self.tests]))
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)


def _site_packages() -> list[str]:
    """The installed packages, also where the environment lies within the checkout."""
    return [p for p in sys.path if "site-packages" in p]


@contextlib.contextmanager
def _workshops(
    file: Path, tests: list[str], jobs: int, limit: float | None
) -> Iterator[Queue[_Workshop]]:
    with tempfile.TemporaryDirectory() as folder:
        free: Queue[_Workshop] = Queue()
        for number in range(jobs):
            place = Path(folder, str(number))
            place.mkdir()
            free.put(_Workshop(place, file, tests, limit))
        yield free


def mirror_of(file: Path) -> list[str]:
    """The test files named after a module: fmstats/drift/noise.py has tests/test_drift_noise.py."""
    parts = [part for part in file.with_suffix("").parts[1:] if part != "__init__"]
    found = [
        name
        for name in (f"tests/test_{'_'.join(parts)}.py", f"tests/test_{parts[-1]}.py")
        if (ROOT / name).exists()
    ]
    return found[:1]


def main() -> int:
    """Run the mutants and print those that no test noticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="a module, relative to the root of the checkout")
    parser.add_argument(
        "tests", nargs="*", help="pytest's arguments (default: the test file of its name)"
    )
    parser.add_argument("--sample", type=int, help="run only so many, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="of that choice")
    parser.add_argument("--jobs", type=int, default=1, help="mutants that run at the same time")
    arguments = parser.parse_args()
    tests = arguments.tests or mirror_of(arguments.file)
    if not tests:
        parser.error(f"no test file is named after {arguments.file}: give the tests to run")
    source = (ROOT / arguments.file).read_text()
    chosen = mutants_of(source)
    if arguments.sample is not None and arguments.sample < len(chosen):
        chosen = random.Random(arguments.seed).sample(chosen, arguments.sample)
        chosen.sort(key=lambda mutant: mutant.start)
    for module in PRELOADED:
        importlib.import_module(module)
    with _workshops(arguments.file, tests, 1, None) as free:
        began = time.monotonic()
        workshop = free.get()
        if not workshop.survives(source):
            print(workshop.log.read_text(), file=sys.stderr)
            parser.error("the tests fail without a mutant")
        limit = 20 + 5 * (time.monotonic() - began)
    survivors = []
    with _workshops(arguments.file, tests, arguments.jobs, limit) as free:

        def run(mutant: Mutant) -> None:
            workshop = free.get()
            try:
                if workshop.survives(mutant.apply(source)):
                    survivors.append(mutant)
                    print(f"  survived  {mutant.describe(source)}", flush=True)
            finally:
                free.put(workshop)

        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(run, chosen))
    share = len(survivors) / max(len(chosen), 1)
    print(f"{arguments.file}: {len(survivors)} of {len(chosen)} mutants survived ({share:.0%})")
    return 1 if share > 0.1 else 0


def _one_line(text: str, most: int = 88) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 3] + "..."


if __name__ == "__main__":
    sys.exit(main())
