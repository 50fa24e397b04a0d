"""The tree keeps its shape: imports run one way, and importing the package stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fmstats"
# Each layer imports from its own line or from those above it.
ORDER = (
    ("errors", "ordering", "_version", "files", "metadata", "naming", "tables", "wrappers"),
    ("gates", "twins"),
    ("modes",),
    ("sampling", "graph", "grad_scale"),
    ("statistic",),
    ("layout", "selection", "channels"),
    ("saturation", "derived", "backends"),
    ("coverage", "layer_columns", "layer_profiles", "profiles", "merging", "pooling"),
    ("measure", "tensors"),
    ("scalars",),
    ("rows", "layers", "calls", "ranks"),
    ("hooks", "specs", "storage", "restoring"),
    ("tracker", "diagnosis", "drift"),
    ("sources",),
    ("runs", "analysis", "pictures"),
    ("integrations",),
    ("exports", "outputs", "demo"),
    ("terminal", "report"),
    ("commands",),
    ("cli", "__main__"),
)
RANK = {module: rank for rank, modules in enumerate(ORDER) for module in modules}


def part_of(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imports_of(path: Path) -> set[str]:
    """The parts of the package that a file imports when it is itself imported."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fmstats"):
            names = [node.module or ""]
            if node.module == "fmstats":
                names = [f"fmstats.{alias.name}" for alias in node.names]
            found |= {name.split(".")[1] for name in names if "." in name}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("fmstats.")}
    return found


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def test_every_module_has_its_place() -> None:
    assert {part_of(p) for p in FILES} == set(RANK)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    mine = part_of(path)
    for imported in imports_of(path) - {mine, "__version__"}:
        assert RANK[imported] <= RANK[mine], f"{mine} imports {imported}, which stands above it"


def test_files_stay_small() -> None:
    files = [*FILES, *(p for p in (PACKAGE.parent / "csrc").rglob("*.[ch]*"))]
    assert {p.suffix for p in files} == {".py", ".h", ".cpp", ".cu", ".cuh"}
    lengths = {path: len(path.read_text().splitlines()) for path in files}
    assert not {path: lines for path, lines in lengths.items() if lines > 300}


def test_integrations_use_the_public_api_alone() -> None:
    for path in FILES:
        if part_of(path) == "integrations":
            inside = r"(from|import) fmstats(?!\.integrations\.)[. ]"
            assert not re.search(inside, path.read_text())
    assert "integrations" in map(part_of, FILES)


def test_backend_names_stay_in_the_backends() -> None:
    apart = ("layers", "hooks", "tracker", "measure", "runs")
    assert set(apart) <= set(map(part_of, FILES))
    for path in FILES:
        if part_of(path) in apart:
            text = path.read_text()
            assert not any(name in text for name in ("CpuBackend", "_native", "triton"))


# What is filled while something runs. All other records stay as they were made.
FILLED = {
    *("Gate", "Seen", "DataSource", "Skipped", "Device", "Account", "Progress"),
    *("Work", "Call", "Trace", "_Buffer"),
}


def test_records_cannot_be_changed() -> None:
    filled = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                made = [ast.unparse(d) for d in node.decorator_list]
                if any(d.startswith("dataclass") and "frozen=True" not in d for d in made):
                    filled.add(node.name)
    assert filled == FILLED


def test_importing_the_package_is_light() -> None:
    heavy = ("triton", "matplotlib", "rich", "pandas", "typer", "PIL", "torch._dynamo", "sklearn")
    heavy += ("ray", "torch.distributed.run", "lightning", "transformers", "tensorboard")
    heavy += ("prometheus_client", "opentelemetry", "jinja2")
    code = "import torch, sys; before = set(sys.modules); import fmstats; " + (
        f"print([m for m in {heavy!r} if m in set(sys.modules) - before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
