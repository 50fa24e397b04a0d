"""The examples in the docstrings of public names run, and print what they show."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import fmstats

# Public names whose docstrings must have an example; those of others are run where there are any.
WITH_EXAMPLE = {
    *("ChannelStats", "Coverage", "FmstatsError", "LayerProfile", "Profile", "Tracker"),
    *("channel_stats", "load", "merge_files", "track"),
}


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
