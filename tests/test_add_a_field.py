"""What docs/field.md claims: a field takes a line in a list, and one for each kind of kernel.

A copy of the tree gets a count, a sum and an extreme, is built, and must hold the laws.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COPIED = ("csrc", "fmstats", "tests", "setup.py", "pyproject.toml", "README.md", "LICENSE")
# File: what a line stands behind, and the line.
DECLARED = {
    "csrc/fields.h": (
        ("  X(sat_high, SatHigh, Upper)", " X(negatives, Negatives, Plain)"),
        ("#define FMSTATS_SUMS(X)", " X(abs_sum, AbsSum)"),
        ("  X(max, Max, larger, -)", " X(abs_min, AbsMin, smaller, +)"),
    ),
}
MEASURED = {
    "fmstats/backends/reference.py": (
        (
            '        "max": high,\n',
            '        "negatives": int(((at < 0) & (at >= -INFINITY)).sum()),\n'
            '        "abs_sum": float(finite.abs().sum()),\n'
            '        "abs_min": float(finite.abs().min()) if finite.numel() else math.inf,\n',
        ),
    ),
    "csrc/parts.h": (
        ("  part.sat_high += x >= t.high;\n", "  part.negatives += x < 0;\n"),
        (
            "    part.max = larger(part.max, x);\n",
            "    part.abs_sum += x < 0 ? -x : x;\n"
            "    part.abs_min = smaller(part.abs_min, x < 0 ? -x : x);\n",
        ),
    ),
    "csrc/cpu/lanes.h": (
        (
            "  lanes.max = keep_larger(x, lanes.max);\n",
            "  lanes.abs_min = keep_smaller(absolute(x), lanes.abs_min);\n"
            "  lanes.negatives -= (x < V{}) & fresh;\n",
        ),
        (
            "  put<kFirst>(sums.sum, d);\n",
            "  put<kFirst>(sums.abs_sum, (V)((M)absolute(x) & fresh));\n",
        ),
    ),
}
NEW = ("negatives", "abs_sum", "abs_min")


def add_lines(tree: Path, lines: dict[str, tuple[tuple[str, str], ...]]) -> None:
    for name, places in lines.items():
        text = (tree / name).read_text()
        for anchor, line in places:
            assert text.count(anchor) == 1, (name, anchor)
            text = text.replace(anchor, anchor + line)
        (tree / name).write_text(text)


def run(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = {"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=tree, env=path, capture_output=True, text=True)


@pytest.mark.long
def test_three_more_fields_hold_the_laws_of_the_cpu_backend(tmp_path: Path) -> None:
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    add_lines(tmp_path, DECLARED)
    add_lines(tmp_path, MEASURED)
    built = tmp_path / "built"
    done = run(
        tmp_path,
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(built)),
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    (native,) = built.glob("fmstats/_native*.so")
    for old in (tmp_path / "fmstats").glob("_native*.so"):
        old.unlink()
    shutil.copy(native, tmp_path / "fmstats")
    show = "import fmstats.backends.native as n; print(*n.load_native().FIELDS)"
    assert set(NEW) < set(run(tmp_path, sys.executable, "-c", show).stdout.split())
    laws = ("tests/test_laws.py", "tests/test_nist.py", "tests/test_accuracy.py")
    done = run(tmp_path, sys.executable, "-m", "pytest", "-q", *laws, "-k", "cpu")
    assert done.returncode == 0, done.stdout[-4000:]
