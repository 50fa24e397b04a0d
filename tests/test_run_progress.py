"""The bar of a run: on a terminal, where rich is there."""

from __future__ import annotations

import builtins
import io
import re
import sys

import pytest
import torch
from torch import nn

from fmstats.runs import profile
from fmstats.sources import DataSource


@pytest.fixture
def model():
    return nn.ReLU()


@pytest.fixture
def images():
    return torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("sized", "unit"),
    [
        ("source", "10/10 samples"),
        ("list", "3/3 batches"),
        ("stream", "10/? samples"),
        ("lone", "3/? batches"),
    ],
)
def test_progress_on_a_terminal(model, images, monkeypatch, sized, unit):
    pytest.importorskip("rich", reason="needs rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", Terminal())
    batches = [(batch, torch.zeros(len(batch))) for batch in images.split(4)]
    data = {
        "source": DataSource("x", 10, lambda: batches),
        "list": batches,
        "stream": iter(batches),
        "lone": iter(images.split(4)),
    }
    profile(model, data[sized])
    assert unit in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", sys.stderr.getvalue())


@pytest.mark.parametrize("case", ["not wanted", "no terminal", "no stderr", "no rich"])
def test_no_progress_otherwise(model, images, monkeypatch, case):
    stream = {"no terminal": io.StringIO(), "no stderr": None}.get(case, Terminal())
    monkeypatch.setattr(sys, "stderr", stream)
    if case == "no rich":
        real = builtins.__import__

        def refuse(name, *rest):
            if name.split(".")[0] == "rich":
                raise ImportError(name)
            return real(name, *rest)

        monkeypatch.setattr(builtins, "__import__", refuse)
    profile(model, images, progress=case != "not wanted")
    assert stream is None or stream.getvalue() == ""
