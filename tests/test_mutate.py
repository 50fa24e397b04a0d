"""The mutation tool changes one place at a time, and reports what no test notices."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from mutate import mirror_of, mutants_of

TOOL = Path(__file__).with_name("mutate.py")


def changed(source: str) -> set[str]:
    return {mutant.apply(source) for mutant in mutants_of(source)}


@pytest.mark.parametrize(
    ("source", "mutants"),
    [
        ("x = a < b <= c", {"x = a <= b <= c", "x = a < b < c"}),
        ("x = a is b", {"x = a is not b"}),
        ("x = a and b", {"x = a or b"}),
        ("x = not a", {"x = a"}),
        ("x = a - b", {"x = a + b"}),
        ("x = True", {"x = False"}),
        ("x = 3", {"x = (3 + 1)"}),
        ("x = é + max(a)", {"x = é - max(a)", "x = é + min(a)"}),
        ("if a:\n    f()", {"if (not (a)):\n    f()", "if a:\n    pass"}),
        ("x = [a for a in b if c(a)]", {"x = [a for a in b if (not (c(a)))]"}),
        ("def f():\n    return a", {"def f():\n    return None"}),
        ("x.y = a", {"pass"}),
        ("x += a", {"pass"}),
        # Words, annotations and errors have no mutants.
        ('"""Words."""\nx: Literal[3] = y\n__all__ = ["a"]\nraise E(3)', set()),
    ],
)
def test_each_mutant_is_one_change(source: str, mutants: set[str]) -> None:
    assert changed(source) == mutants


def test_every_mutant_of_a_real_module_can_be_parsed() -> None:
    source = Path(__file__).parent.parent.joinpath("fmstats", "profiles", "merging.py").read_text()
    mutants = mutants_of(source)
    assert len(mutants) > 50
    for mutant in mutants:
        ast.parse(mutant.apply(source))
        assert mutant.apply(source) != source
        assert f"line {mutant.line}: " in mutant.describe(source)


def test_tests_are_found_by_name() -> None:
    assert mirror_of(Path("fmstats/drift/noise.py")) == ["tests/test_drift_noise.py"]
    assert mirror_of(Path("fmstats/runs/undo.py")) == []


@pytest.mark.long
def test_a_mutant_that_no_test_notices_is_told() -> None:
    def run(tests: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, TOOL, "fmstats/profiles/pooling.py", *tests.split()]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    noticed = run("tests/test_pooling.py")
    assert "of 20 mutants survived" in noticed.stdout
    nothing = run("tests/test_pooling.py -k no_such_test_is_there")
    assert nothing.returncode == 2
    assert "the tests fail without a mutant" in nothing.stderr
