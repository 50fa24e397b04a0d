"""The docstrings of the upper packages: their examples run, and they begin with a verb."""

from __future__ import annotations

import ast
import doctest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fmstats
from fmstats.sources import DataSource, open_data

DRAWING = [
    fmstats.TopImages.figure,
    fmstats.overlay,
    fmstats.plot_profile,
    fmstats.visualize,
    fmstats.visualize_hierarchy,
]
OTHERS = [
    fmstats.Analysis,
    fmstats.CheckError,
    fmstats.CheckResult,
    fmstats.Comparison,
    fmstats.Diagnosis,
    fmstats.Finding,
    fmstats.RunInterrupted,
    fmstats.TopImage,
    fmstats.TopImages,
    DataSource,
    fmstats.analyze,
    fmstats.check,
    fmstats.diagnose,
    fmstats.profile,
    fmstats.top_images,
    open_data,
]

PACKAGES = (
    *(
        "analysis",
        "calibration",
        "checking",
        "commands",
        "demo",
        "diagnosis",
        "drift",
        "integrations",
    ),
    *("output", "pictures", "report", "runs", "sources"),
)
# With these a docstring begins that names something, and does not say what is done.
NO_VERBS = {"A", "An", "As", "How", "It", "Of", "See", "That", "The", "What", "Where"}
NO_VERBS |= {"Whether", "Which"}


def first_words(source: str) -> Iterator[tuple[str, str]]:
    """Yield the name of everything with a docstring, and the first word of that."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", "the module"), text.split()[0]


def run(documented: Any) -> tuple[int, str]:
    """Run the examples of one docstring; return how many there are, and what failed."""
    examples = doctest.DocTestParser().get_doctest(
        documented.__doc__, {}, documented.__name__, None, None
    )
    report: list[str] = []
    doctest.DocTestRunner(verbose=False).run(examples, out=report.append)
    return len(examples.examples), "".join(report)


@pytest.mark.parametrize("documented", OTHERS, ids=lambda documented: documented.__name__)
def test_examples_run(documented: Any, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    number, report = run(documented)
    assert number > 0
    assert not report, report


@pytest.mark.parametrize("documented", DRAWING, ids=lambda documented: documented.__qualname__)
def test_examples_that_draw_run(documented: Any) -> None:
    pytest.importorskip("matplotlib")
    number, report = run(documented)
    assert number > 0
    assert not report, report


def test_an_example_that_fails_is_seen() -> None:
    def wrong() -> None:
        """Add.

        >>> 1 + 1
        3
        """

    number, report = run(wrong)
    assert number == 1
    assert "Expected:\n    3\nGot:\n    2" in report


def lacks_verb(word: str) -> bool:
    return word in NO_VERBS or word.startswith("`")


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_begin_with_a_verb(package: str) -> None:
    files = sorted(Path(fmstats.__file__).parent.joinpath(package).rglob("*.py"))
    assert len(files) > 2
    words = [(path.name, *found) for path in files for found in first_words(path.read_text())]
    assert [found for found in words if lacks_verb(found[2])] == []


def test_a_docstring_without_a_verb_is_seen() -> None:
    source = (
        '''def f():\n    """The number of channels."""\n\nclass A:\n    """Hold numbers."""\n'''
    )
    assert [(name, lacks_verb(word)) for name, word in first_words(source)] == [
        ("f", True),
        ("A", False),
    ]
