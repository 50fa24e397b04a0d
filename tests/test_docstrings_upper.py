"""The examples in the docstrings of what runs, judges, compares, analyses and draws."""

from __future__ import annotations

import doctest
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
    fmstats.Comparison,
    fmstats.Diagnosis,
    fmstats.Finding,
    fmstats.RunInterrupted,
    fmstats.TopImage,
    fmstats.TopImages,
    DataSource,
    fmstats.analyze,
    fmstats.diagnose,
    fmstats.profile,
    fmstats.top_images,
    open_data,
]


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
