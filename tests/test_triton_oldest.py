"""The kernels in the oldest Triton that is supported, which `make test` puts into build.

3.2 is what torch 2.6 ships. Its interpreter does not run with NumPy 2.4 and its compiler for AMD
asks for a ROCm: there the PTX alone is checked.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton_host
from test_triton_interpreted import passed

from fmstats.backends.triton.engine import OLDEST

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "oldest-triton"

pytestmark = [
    triton_host.needs_triton,
    pytest.mark.skipif(not FOLDER.exists(), reason="no older Triton: `make test` installs one"),
]


def python(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(FOLDER)}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def test_it_is_the_oldest() -> None:
    version = python("-c", "import triton; print(triton.__version__)")
    assert tuple(map(int, version.split(".")[:2])) == OLDEST


def test_every_kernel() -> None:
    suite = str(ROOT / "tests" / "test_triton_kernels.py")
    chosen = (
        "(for_every_gpu and (90-float8_e4m3fn or 80-bfloat16 or 90-float64))"
        " or (read_once and (float32 or float16)) or stores_are or measured_again or any_order"
    )
    out = python("-m", "pytest", "-q", "-p", "no:cacheprovider", suite, "-k", chosen)
    assert passed(out) >= 20


def test_the_fold_of_graphs() -> None:
    suite = str(ROOT / "tests" / "test_triton_fold.py")
    chosen = "all_shapes and 90 or read_once or closed"
    out = python("-m", "pytest", "-q", "-p", "no:cacheprovider", suite, "-k", chosen)
    assert passed(out) == 7


def test_groups() -> None:
    suite = str(ROOT / "tests" / "test_triton_groups.py")
    chosen = "statistics and float32 or nothing_left or goes_on"
    assert passed(python("-m", "pytest", "-q", "-p", "no:cacheprovider", suite, "-k", chosen)) == 9


def test_what_is_requested() -> None:
    suite = str(ROOT / "tests" / "test_triton_requested.py")
    chosen = "(every_kernel and float32) or alone or gate or (its_own and strided)"
    assert passed(python("-m", "pytest", "-q", "-p", "no:cacheprovider", suite, "-k", chosen)) == 9


def test_the_way_to_the_launcher() -> None:
    suite = str(ROOT / "tests" / "test_triton_engine.py")
    assert passed(python("-m", "pytest", "-q", "-p", "no:cacheprovider", suite)) == 5
