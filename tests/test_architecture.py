"""The tree keeps its shape: imports run one way, and importing the package stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fmstats"
# Each package imports from itself and from those before it.
ORDER = (
    *("errors", "_version", "output", "statistic", "backends", "graph_ops", "models", "operations"),
    *(
        "profiles",
        "storage",
        "histories",
        "calibration",
        "diagnosis",
        "drift",
        "tracking",
        "parameters",
        "sources",
        "runs",
        "analysis",
        "pictures",
    ),
    *("integrations", "report", "checking", "demo", "commands", "cli", "__main__"),
)
# What may import upwards, within functions and for types alone: the methods of `Profile` for which
# users need not know where a profile is saved, judged or drawn.
UPWARD = {"profiles/uses.py": {"storage", "calibration", "diagnosis", "drift", "report"}}
# Modules of one package that import each other, for the same reason.
_METHODS = ("profile", "merging", "narrowing", "pooling", "scalars", "stacks", "uses")
METHODS = {f"fmstats.profiles.{module}" for module in _METHODS}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(module: str) -> str:
    """errors for fmstats.errors, statistic for fmstats.statistic.state."""
    return module.split(".")[1]


def imports_of(path: Path, modules: frozenset[str]) -> set[str]:
    """The modules of fmstats that a file imports, within its functions and for its types, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            named = {f"{base}.{alias.name}" for alias in node.names}
            found |= (named & modules) | ({base} if named - modules else set())
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & modules


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Modules that can be reached from each other."""
    reach = {module: {module} for module in graph}
    while True:
        longer = {m: r.union(*(graph[n] for n in r)) for m, r in reach.items()}
        if longer == reach:
            break
        reach = longer
    groups = ({n for n in reach[m] if m in reach[n]} for m in graph)
    return [set(group) for group in {frozenset(group) for group in groups} if len(group) > 1]


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")
MODULES = frozenset(map(module_of, FILES))
GRAPH = {module_of(path): imports_of(path, MODULES) for path in FILES}


def test_every_package_has_its_place() -> None:
    assert {package_of(module) for module in MODULES} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    mine = package_of(module_of(path))
    above = {
        package_of(module)
        for module in GRAPH[module_of(path)]
        if ORDER.index(package_of(module)) > ORDER.index(mine)
    }
    assert above == UPWARD.get(str(path.relative_to(PACKAGE)), set())


def test_what_imports_upwards_is_imported_where_it_is_used() -> None:
    for name, packages in UPWARD.items():
        for node in ast.parse((PACKAGE / name).read_text()).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fmstats."):
                assert package_of(node.module or "") not in packages


def test_no_modules_import_each_other() -> None:
    known = {
        f"fmstats.{name.removesuffix('.py').replace('/', '.')}": u for name, u in UPWARD.items()
    }
    downward = {
        module: {n for n in imported if package_of(n) not in known.get(module, set())}
        for module, imported in GRAPH.items()
    }
    assert circles(downward) == [METHODS]


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}
    assert circles(graph) == [{"b", "c"}]


def test_files_stay_small() -> None:
    files = [*FILES, *(p for p in (PACKAGE.parent / "csrc").rglob("*.[ch]*"))]
    assert {p.suffix for p in files} == {".py", ".h", ".cpp", ".cu", ".cuh"}
    lengths = {path: len(path.read_text().splitlines()) for path in files}
    assert not {path: lines for path, lines in lengths.items() if lines > 300}


# What integrations may use beside the public API.
SHARED = {
    *("fmstats.errors", "fmstats.models.selection", "fmstats.profiles.scalars"),
    "fmstats.tracking.nonfinite",  # what may be done about an event
}


def test_integrations_use_little_beside_the_public_api() -> None:
    for path in FILES:
        if package_of(module_of(path)) == "integrations":
            imported = GRAPH[module_of(path)]
            assert {m for m in imported if package_of(m) != "integrations"} <= SHARED
            assert "from fmstats import" not in path.read_text()


def test_backend_names_stay_in_the_backends() -> None:
    for path in FILES:
        if package_of(module_of(path)) in ("tracking", "runs", "profiles"):
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
