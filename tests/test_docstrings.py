"""Examples in the docstrings of public names run; a docstring's first sentence stands alone."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import pytest

import fmstats

# Public names whose docstrings must have an example; those of others are run where there are any.
WITH_EXAMPLE = {
    *("ChannelStats", "Coverage", "FmstatsError", "LayerProfile", "Profile", "Tracker"),
    *("channel_stats", "load", "merge_files", "track"),
}

# The packages whose docstrings are held to stand alone: they send nobody elsewhere to begin with.
PACKAGES = ("statistic", "backends", "models", "profiles", "tracking", "storage")
FILES = [p for name in PACKAGES for p in (Path(fmstats.__file__).parent / name).rglob("*.py")]


def docstrings_of(path: Path) -> list[str]:
    """The docstrings of a file: its own, those of its classes and those of its functions."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    return [text for node in nodes if (text := ast.get_docstring(node)) is not None]


def example_of(name: str) -> doctest.DocTest:
    """The example of a public name, in which `fmstats` is imported already."""
    text = getattr(fmstats, name).__doc__ or ""
    return doctest.DocTestParser().get_doctest(text, {"fmstats": fmstats}, name, name, 0)


@pytest.mark.parametrize("name", sorted(set(fmstats.__all__) - {"__version__"}))
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = example_of(name)
    assert example.examples or name not in WITH_EXAMPLE
    reports: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=reports.append)
    assert not runner.failures, "".join(reports)


def test_every_name_with_an_example_is_public() -> None:
    assert set(fmstats.__all__) >= WITH_EXAMPLE


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_first_sentences_stand_alone(path: Path) -> None:
    leans = re.compile(r"(See|As|Itself|Also|Of|Those|Same|Likewise)\b|Pass (it|them) on")
    assert not [text for text in docstrings_of(path) if leans.match(text)]


def test_docstrings_of_packages_are_found() -> None:
    assert {path.relative_to(Path(fmstats.__file__).parent).parts[0] for path in FILES} == set(
        PACKAGES
    )
    (found,) = [path for path in FILES if path.parts[-2:] == ("backends", "reference.py")]
    assert any(text.startswith("This backend measures") for text in docstrings_of(found))
