"""What is handed around stays as it was made: dataclasses are frozen, but for those named here."""

from __future__ import annotations

import ast
from pathlib import Path

import fmstats

# They count or collect while something runs.
CHANGING = {
    *("analysis/records.py:Call", "analysis/records.py:Trace", "analysis/records.py:Work"),
    *("analysis/recorder.py:_Buffer", "backends/cuda/device.py:Device", "gates.py:Gate"),
    *("pictures/capture.py:Seen", "runs/account.py:Account", "runs/checkpoints.py:Progress"),
    *("sources/data.py:DataSource", "sources/stored.py:Skipped"),
}


def is_frozen(decorator: ast.expr) -> bool | None:
    """None where it makes no dataclass."""
    call = decorator if isinstance(decorator, ast.Call) else None
    name = decorator.func if call else decorator
    if not (isinstance(name, ast.Name) and name.id == "dataclass"):
        return None
    given = {word.arg: word.value for word in call.keywords} if call else {}
    frozen = given.get("frozen")
    return isinstance(frozen, ast.Constant) and frozen.value is True


def test_dataclasses_are_frozen() -> None:
    root = Path(fmstats.__file__).parent
    found = {}
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                told = [f for f in map(is_frozen, node.decorator_list) if f is not None]
                found |= {f"{path.relative_to(root).as_posix()}:{node.name}": f for f in told}
    assert len(found) > 50
    assert {name for name, frozen in found.items() if not frozen} == CHANGING
