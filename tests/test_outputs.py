"""Result files are whole or absent, readable by strict parsers, and refused before the run."""

from __future__ import annotations

import csv
import json
import math
import os
import sys

import numpy as np
import pytest
import torch
from torch import nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.outputs import (
    check_output,
    choose_layers,
    describe_run,
    format_csv,
    write_profile,
)
from fmstats.runs import profile
from fmstats.tables import join_blocks


@pytest.fixture
def result():
    torch.manual_seed(0)
    images = torch.randn(6, 3, 8, 8)
    images[0, 0, 0, 0] = float("nan")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.Identity()))
    model.add_module("spare", nn.Identity())
    model.forward = lambda x: model[1](model[0](x))
    return profile(model, images)


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_json(result, tmp_path):
    path = tmp_path / "p.json"
    path.write_text("old")
    write_profile(result, path)
    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content["metadata"]["samples"] == 6
    assert [row["name"] for row in content["metadata"]["coverage"]] == ["2.0", "spare"]
    assert list(content["layers"]) == ["0", "1"]
    np.testing.assert_array_equal(content["layers"]["1"]["zeros"], result["1"].zeros)
    np.testing.assert_allclose(content["layers"]["1"]["mean"], result["1"].mean, rtol=0)
    assert os.listdir(tmp_path) == ["p.json"]


def test_json_has_null_for_what_is_not_finite(tmp_path):
    everything = profile(nn.Sequential(nn.ReLU()), torch.full((2, 3), float("nan")))
    write_profile(everything, tmp_path / "p.json")
    content = json.loads((tmp_path / "p.json").read_text(), parse_constant=refuse)
    assert content["layers"]["0"]["mean"] == [None] * 3
    assert content["layers"]["0"]["nan"] == [2] * 3


def test_csv(result, tmp_path):
    pytest.importorskip("pandas", reason="needs pandas")
    write_profile(result, tmp_path / "p.CSV")
    with (tmp_path / "p.CSV").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["layer"], row["channel"]) for row in rows] == [
        (layer, str(channel)) for layer in "01" for channel in range(4)
    ]
    assert [int(row["zeros"]) for row in rows[4:]] == result["1"].zeros.tolist()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("p.txt", r"p.txt': a result ends in .fmstats, .json, .csv"),
        ("p", r"p': a result ends in .fmstats, .json, .csv"),
        ("absent/p.json", r"there is no folder '.*absent'"),
        ("folder.json", r"it is a folder"),
    ],
)
def test_wrong_files(result, tmp_path, name, message):
    (tmp_path / "folder.json").mkdir()
    for function in (check_output, lambda path: write_profile(result, path)):
        with pytest.raises(FmstatsError, match=message):
            function(tmp_path / name)


def test_missing_pandas(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        FmstatsError, match=r"needs pandas.*pip install 'fmstats\[pandas\]', or wri"
    ):
        check_output(tmp_path / "p.csv")
    check_output(tmp_path / "p.json")


def test_a_full_disk_keeps_the_old_file(result, tmp_path, monkeypatch):
    def fail(handle):
        raise OSError(28, "No space left on device")

    (tmp_path / "p.json").write_text("old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FmstatsError, match=r"cannot write '.*p.json': .*No space left on device"):
        write_profile(result, tmp_path / "p.json")
    assert (tmp_path / "p.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["p.json"]


def test_a_profile_file(result, tmp_path):
    write_profile(result, tmp_path / "p.fmstats")
    read = fmstats.load(tmp_path / "p.fmstats")
    assert read.metadata == result.metadata
    assert read.to_dict()["layers"]["1"]["zeros"] == result.to_dict()["layers"]["1"]["zeros"]


def test_text_of_a_run(result):
    result.metadata["skipped"] = [f"{i}.png" for i in range(20)]
    text = join_blocks(describe_run(result))
    assert text.startswith("samples: 6, batches: 1, seconds: 0.")
    assert str(result) in text
    assert f"Findings\n{result.diagnose()}" in text
    assert "non-finite" in text
    assert "Not measured\n  2.0 (Identity): never fired\n  spare (Identity): never fired\n" in text
    assert "\n\nLeft out: 20 samples or batches\n  0.png\n" in text
    assert text.endswith("  10.png\n  11.png\n  and 8 more")


@pytest.mark.parametrize(
    ("entries", "count", "title", "end"),
    [
        (["a.png"], 1, "Left out: 1 sample or batch", "\n  a.png"),
        (["a.png", "batch 7"], 12_345, "Left out: 12,345 samples or batches", "and 12,343 more"),
        (["a.png", "b.png"], "many", "Left out: 2 samples or batches", "\n  b.png"),
        (["a.png", "b.png"], None, "Left out: 2 samples or batches", "\n  b.png"),
    ],
)
def test_what_was_left_out_is_counted_beyond_the_list(result, entries, count, title, end):
    result.metadata |= {"skipped": entries, "skipped_count": count}
    text = join_blocks(describe_run(result))
    assert f"\n\n{title}\n  a.png" in text
    assert text.endswith(end)


def test_chosen_layers(result):
    rows = result.layers()
    assert choose_layers(result).rows == rows
    assert choose_layers(result, layers=["1"]).rows == rows[1:]
    assert choose_layers(result, layers=["[01]"], sort="zeros", top=1).rows == rows[1:]
    assert choose_layers(result, sort="-sparsity").rows == rows
    assert choose_layers(result, depth=1).rows == rows
    assert choose_layers(result, top=0).rows == []
    assert str(result) not in join_blocks(describe_run(result, choose_layers(result, top=0)))
    with pytest.raises(FmstatsError, match=r"--layer: 'x\.\*' matches none of the tracked layers"):
        choose_layers(result, layers=["1", "x.*"])
    with pytest.raises(FmstatsError, match="there is no column 'colour': choose from layer, type"):
        choose_layers(result, sort="colour")


def test_rows_as_csv():
    rows = [{"name": "a,b", "x": 1.5, "shape": (1, 2)}, {"name": "c", "x": math.nan, "shape": None}]
    assert format_csv(rows) == 'name,x,shape\n"a,b",1.5,1x2\nc,,\n'
    assert format_csv([]) == "\n"


def test_reasons_are_given():
    class Count(nn.Module):
        def forward(self, x):
            return x.argmax(1)

    blocks = describe_run(profile(nn.Sequential(nn.ReLU(), Count()), torch.randn(2, 3)))
    text = join_blocks(blocks)
    assert "Not measured\n  1 (Count): skipped, its output is int64" in text
    assert "Left out" not in text
