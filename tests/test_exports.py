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
from profile_files import layer_of
from torch import nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.integrations.readings import Readings
from fmstats.output.files import encode_text
from fmstats.profiles.metadata import DEEPEST
from fmstats.profiles.profile import Profile
from fmstats.profiles.scalars import ROW
from fmstats.runs import profile
from fmstats.storage.exports import check_output, format_csv, format_json, write_profile


@pytest.fixture
def result():
    torch.manual_seed(0)
    images = torch.randn(6, 3, 8, 8)
    images[0, 0, 0, 0] = float("nan")
    return profile(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), images)


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_json(result, tmp_path):
    path = tmp_path / "p.json"
    path.write_text("old")
    write_profile(result, path)
    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content["metadata"] == {**result.metadata, "samples": 6}
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
        ("p.txt", r"p.txt': a result ends in .fmstats, .json or .csv"),
        ("p", r"p': a result ends in .fmstats, .json or .csv"),
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
        FmstatsError, match=r"needs pandas: pip install 'fmstats\[pandas\]', or wri"
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


def test_rows_as_csv():
    rows = [{"name": "a,b", "x": 1.5, "shape": (1, 2)}, {"name": "c", "x": math.nan, "shape": None}]
    names = ("name", "x", "shape")
    assert format_csv(rows, names) == 'name,x,shape\n"a,b",1.5,1x2\nc,,\n'
    assert format_csv([], names) == "name,x,shape\n"


ODD_NAMES = ("a\rb", "a\r\nb", "a\nb", 'q"u,o"te', " space ", "\ud800", "\u00e9", "=1+1")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_in_csv(tmp_path, name):
    pytest.importorskip("pandas", reason="needs pandas")
    shown = name.encode("utf-8", "backslashreplace").decode()
    profile = Profile({name: layer_of(torch.ones(2, 3)), "next": layer_of(torch.ones(2, 1))}, {})
    write_profile(profile, tmp_path / "p.csv")
    text = format_csv(profile.layers(), ROW)
    (tmp_path / "l.csv").write_bytes(encode_text(text))
    for file, rows in (("p.csv", [shown] * 3 + ["next"]), ("l.csv", [shown, "next"])):
        with open(tmp_path / file, newline="", encoding="utf-8") as opened:
            assert [row["layer"] for row in csv.DictReader(opened)] == rows
        content = (tmp_path / file).read_bytes()
        assert content.startswith(b"layer,type,channel")
        assert content.endswith(b"\n")
        assert content.count(b"\r") == len(rows[:-1]) * name.count("\r")


def test_json_as_deep_as_metadata_may_be():
    def nested(depth):
        return [nested(depth - 1)] if depth else "end"

    deepest = {"a": nested(DEEPEST - 1)}
    assert json.loads(format_json(deepest)) == deepest
    assert json.loads(format_json({"a": deepest})) == {"a": {"a": nested_until(DEEPEST - 2)}}


def test_mappings_of_json_are_as_deep_as_lists():
    deepest = "end"
    for _ in range(DEEPEST):
        deepest = {"a": deepest}
    assert json.loads(format_json(deepest)) == deepest
    found = json.loads(format_json({"a": deepest}))
    for _ in range(DEEPEST):
        found = found["a"]
    assert found == "..."


def test_json_has_a_line_for_each_value():
    assert format_json({"a": [1, {"b": True}]}) == (
        '{\n "a": [\n  1,\n  {\n   "b": true\n  }\n ]\n}\n'
    )


def nested_until(depth):
    """Lists within one another, of which the last one is told by dots."""
    return [nested_until(depth - 1)] if depth else "..."


def test_of_nothing_finite_only_counts_are_told() -> None:
    """A sparsity of 0 of a layer that is all NaN would look healthy."""
    with fmstats.track(model := nn.Sequential(nn.Identity(), nn.ReLU())) as tracker:
        model(torch.full((4, 3), math.nan))
    seen = tracker.stats()
    for layer in seen:
        told = seen.scalars(("mean", "std", "sparsity", "dead", "nan", "inf", "count", "channels"))
        names = {key.rsplit(".", 1)[1] for key in told if key.startswith(f"{layer}.")}
        assert names == {"nan", "inf", "count", "channels"}
        rows = Readings(seen, min_interval=0).read().rows
        said = {
            metric.stat
            for metric, some in rows.items()
            if any(r[0]["layer"] == layer for r in some)
        }
        assert said == {"channels", "count", "nan", "inf"}
