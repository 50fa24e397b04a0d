"""Words that all errors share."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

import fmstats
from fmstats import FmstatsError
from fmstats.errors import needs


def test_a_missing_package_is_named_with_what_installs_it() -> None:
    told = (
        "overlay() needs Matplotlib: pip install 'fmstats[viz]' (No module named 'not_installed')"
    )
    with (
        pytest.raises(FmstatsError, match=f"^{re.escape(told)}$") as raised,
        needs("overlay()", "Matplotlib", "'fmstats[viz]'"),
    ):
        importlib.import_module("not_installed")
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), needs("overlay()", "Matplotlib", "'fmstats[viz]'"):
        raise KeyError


def test_optional_packages_are_asked_for_in_one_way() -> None:
    """No other place turns an ImportError into an FmstatsError in words of its own."""
    package = Path(fmstats.__file__).parent
    for path in package.rglob("*.py"):
        if path == package / "errors.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and "ImportError" in ast.unparse(
                node.type or node
            ):
                assert "FmstatsError" not in ast.unparse(node), path
