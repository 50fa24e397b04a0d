"""Data named by a Python object, and names that lead nowhere."""

from __future__ import annotations

import sys

import pytest
import torch

from fmstats.errors import FmstatsError
from fmstats.sources import open_data

FILE = """
import numpy, torch
from torch.utils.data import DataLoader, TensorDataset
calls = []
def generator():
    calls.append(1)
    for i in range(3):
        yield torch.full((2, 3), float(i)), torch.zeros(2)
def dicts(): return [{"x": torch.zeros(2, 3)}]
def tensor(): return torch.zeros(10, 3)
array = numpy.zeros((10, 3))
scalar = lambda: torch.tensor(3.0)
dataset = TensorDataset(torch.zeros(10, 3))
make_dataset = lambda: dataset
loader = DataLoader(dataset, batch_size=4)
ready = [torch.zeros(5, 3)]
number = 3
one_dict = {"x": torch.zeros(2, 3)}
gives_number = lambda: 3
def fails(): raise OSError("disk is gone")
def needs(root): ...
"""


@pytest.fixture
def data_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "some_data_file.py").write_text(FILE)
    yield "some_data_file.py"
    for name in [name for name in sys.modules if "some_data_file" in name]:
        del sys.modules[name]


def test_generator_starts_anew_for_each_pass(data_file):
    source = open_data(f"{data_file}:generator")
    assert (source.samples, source.description) == (None, f"batches of '{data_file}:generator'")
    assert [len(list(source)) for _ in range(2)] == [3, 3]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("tensor", [4, 4, 2]), ("array", [4, 4, 2]), ("loader", [4, 4, 2]), ("ready", [5])],
)
@pytest.mark.parametrize("where", ["some_data_file.py", "some_data_file"])
def test_tensors_and_iterables(data_file, where, name, sizes):
    batches = list(open_data(f"{where}:{name}", batch_size=4))
    assert [len(b[0] if isinstance(b, list) else b) for b in batches] == sizes


def test_dicts_pass_through(data_file):
    (batch,) = open_data(f"{data_file}:dicts")
    assert batch.keys() == {"x"}


@pytest.mark.parametrize(("name", "sizes"), [("generator", [2, 1]), ("loader", [3])])
def test_limit_cuts_the_last_batch(data_file, name, sizes):
    source = open_data(f"{data_file}:{name}", limit=3)
    assert source.samples == 3
    assert [b.samples for b in source] == sizes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("number", r":number' is of type int, not an iterable of batches"),
        ("dataset", r":dataset' is a Dataset, which gives single samples: wrap it in torch.utils"),
        ("one_dict", r":one_dict' is one dict, not an iterable of batches: write \[batch\]"),
        ("absent", r"has no attribute 'absent'"),
    ],
)
def test_wrong_objects_are_refused_on_opening(data_file, name, message):
    with pytest.raises(FmstatsError, match=message):
        open_data(f"{data_file}:{name}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gives_number", r":gives_number' is of type int, not an iterable of batches"),
        ("make_dataset", r":make_dataset' is a Dataset, which gives single samples"),
        ("scalar", r":scalar' gave a single number, which has no samples"),
        ("fails", r"the call raised OSError: disk is gone \(some_data_file.py, line 20\)"),
        ("needs", r"called without arguments but needs root"),
    ],
)
def test_wrong_results_are_refused_on_starting(data_file, name, message):
    source = open_data(f"{data_file}:{name}")
    with pytest.raises(FmstatsError, match=message):
        list(source)


def test_names_that_lead_nowhere(tmp_path):
    with pytest.raises(FmstatsError, match=r"data 'nowhere' does not exist; forms: a folder of im"):
        open_data("nowhere")
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(FmstatsError, match=r"x.csv' is not understood; forms: a folder of images"):
        open_data(tmp_path / "x.csv")


def test_dataset_in_memory_is_refused():
    from fmstats.sources.data import require_batches

    dataset = torch.utils.data.TensorDataset(torch.zeros(3, 2))
    with pytest.raises(FmstatsError, match="data is a Dataset"):
        require_batches(dataset, "data")
