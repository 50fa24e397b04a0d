"""The bar of a run: on a terminal, where rich is there."""

from __future__ import annotations

import builtins
import io
import re
import sys

import pytest
import torch
from torch import nn

from fmstats.runs import profile, progress
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


@pytest.mark.parametrize(
    ("limit", "kind", "total"),
    [(6, "source", "6/6 samples"), (99, "source", "10/10 samples"), (6, "list", "6/6 samples")],
)
def test_the_total_is_that_of_the_limit(model, images, monkeypatch, limit, kind, total):
    pytest.importorskip("rich", reason="needs rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", Terminal())
    batches = [(batch, torch.zeros(len(batch))) for batch in images.split(4)]
    profile(
        model, DataSource("x", 10, lambda: batches) if kind == "source" else batches, limit=limit
    )
    assert total in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", sys.stderr.getvalue())


def bar(monkeypatch, *args, done=(0, 0), ranks=1, advances=((4, None),)):
    """What is told to the bar: its task, and each update."""
    told = []

    class Bar:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            told.append("closed")

        def add_task(self, description, **known):
            told.append({"description": description, **known})
            return 7

        def update(self, task, **known):
            told.append({"task": task, **known})

    monkeypatch.setattr(progress, "_build_bar", Bar)
    monkeypatch.setattr(sys, "stderr", Terminal())
    times = iter(range(0, 100, 2))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(times))
    with progress.show_progress(*args, done=done, ranks=ranks) as advance:
        for samples, share in advances:
            advance(samples, share)
    assert told.pop() == "closed"
    return told


def test_what_the_bar_is_told(monkeypatch):
    source = DataSource("x", 101, list)
    first, *updates = bar(
        monkeypatch, source, None, True, done=(8, 2), ranks=2, advances=[(4, None), (400, 0.256)]
    )
    assert first == {"description": "samples", "total": 51, "completed": 8, "speed": ""}
    assert updates == [
        {"task": 7, "advance": 4, "speed": "2 samples/s"},
        {"task": 7, "advance": 400, "speed": "101 samples/s, statistics 26 %"},
    ]
    first, *updates = bar(monkeypatch, [1, 2, 3], None, True, done=(8, 1), advances=[(4, None)])
    assert first == {"description": "batches", "total": 3, "completed": 1, "speed": ""}
    assert updates == [{"task": 7, "advance": 1, "speed": "2 samples/s"}]


@pytest.mark.parametrize(
    ("samples", "speed"),
    [
        *((1, "0.5 samples/s"), (199, "99.5 samples/s"), (200, "100 samples/s")),
        *((201, "100 samples/s"), (203, "102 samples/s"), (246_912, "123,456 samples/s")),
    ],
)
def test_speeds_have_three_digits_or_all_of_a_whole_number(monkeypatch, samples, speed):
    _, update = bar(
        monkeypatch, DataSource("x", None, list), None, True, advances=[(samples, None)]
    )
    assert update == {"task": 7, "advance": samples, "speed": speed}


def test_a_run_begins_at_nothing(monkeypatch):
    monkeypatch.setattr(progress, "_build_bar", lambda: None)
    with progress.show_progress([], None, True) as advance:
        advance(3, 0.5)
    for batches in ([1, 2], DataSource("x", 100, list)):
        told = []
        monkeypatch.setattr(progress, "_build_bar", lambda told=told: FirstTask(told))
        monkeypatch.setattr(sys, "stderr", Terminal())
        with progress.show_progress(batches, None, True):
            pass
        assert [task["completed"] for task in told] == [0]


class FirstTask:
    """A bar that keeps what its tasks were made with."""

    def __init__(self, told):
        self.told = told

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def add_task(self, description, **known):
        self.told.append(known)


def test_unknown_samples_turn_the_bar_to_batches(monkeypatch):
    source = DataSource("x", 100, list)
    _, *updates = bar(
        monkeypatch,
        source,
        None,
        True,
        done=(8, 2),
        advances=[(4, None), (None, None), (None, None)],
    )
    assert updates[1:] == [
        {
            **{"task": 7, "speed": "0.5 batches/s"},
            **{"description": "batches", "total": None, "completed": 4},
        },
        {"task": 7, "advance": 1, "speed": "0.5 batches/s"},
    ]


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
