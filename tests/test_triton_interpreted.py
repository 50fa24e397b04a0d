"""The laws and the parity suite hold for the triton backend, run by Triton's interpreter.

Triton asks for TRITON_INTERPRET when it is imported, so a process of its own runs them. There the
backend serves CPU tensors, in the way that a user takes: `backend="triton"`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import triton_host

pytestmark = triton_host.needs_triton
HERE = Path(__file__).parent


def run(*arguments: str) -> str:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    # NumPy, which the interpreter computes with, warns of what a processor does without a word.
    quiet = [f"-Wignore:{text}:RuntimeWarning" for text in ("invalid value", "overflow", "divide")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *quiet, *arguments]
    done = subprocess.run(
        command, cwd=HERE.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def passed(output: str) -> int:
    found = re.search(r"(\d+) passed", output)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("suite", ["test_laws.py", "test_nist.py"])
def test_suite(suite: str) -> None:
    assert passed(run(str(HERE / suite), "-k", "triton")) >= 8


def test_the_numbers_of_the_hook_everybody_writes() -> None:
    assert passed(run(str(HERE / "test_parity.py"), "-k", "triton")) >= 5


def test_the_fold_of_graphs() -> None:
    assert passed(run(str(HERE / "test_triton_fold.py"), "-k", "interpreted")) == 3


def test_groups() -> None:
    assert passed(run(str(HERE / "test_triton_groups.py"), "-k", "interpreted")) == 4


def test_what_is_requested() -> None:
    assert passed(run(str(HERE / "test_triton_requested.py"), "-k", "interpreted")) == 6


def test_hooks() -> None:
    """From `track()` down to the kernels, fast way and slow."""
    assert passed(run(str(HERE / "test_triton_backend.py"), "-k", "interpreted")) >= 3
