"""`fmstats show` and `fmstats merge`, and profile files from `fmstats profile`."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
import torch
from profile_files import assert_same_profiles, layer_of, profile_of, some_profile

import fmstats
from fmstats.storage import merge_files, save

pytest.importorskip("typer", reason="needs typer")

NET = """
import torch
from torch import nn
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
def batches():
    for _ in range(3):
        yield torch.ones(4, 3, 8, 8)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for i, name in enumerate("abc"):
        times = {"started": f"2026-01-0{i + 1}", "ended": f"2026-01-0{i + 2}"}
        save(some_profile(i, samples=10, seconds=0.5, data=name, **times), f"{name}.fmstats")
    return tmp_path


@pytest.fixture
def run(command_line):
    """Run a command line; return exit code, stdout, stderr."""
    return command_line


@pytest.mark.parametrize("command", ["show", "merge"])
def test_help_teaches_by_example(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert f"Examples:\n    fmstats {command} " in out
    assert f"  {command} " in run("--help")[1]


def test_show(run, folder):
    code, out, err = run("show", "a.fmstats")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "a.fmstats: 3 layers of Net, 10 channels"
    assert lines[1] == "samples: 10, seconds: 0.5"
    assert lines[2] == "from 2026-01-01 to 2026-01-02"
    profile = fmstats.load("a.fmstats")
    assert f"\n\n{profile}\n\nFindings\n{profile.diagnose()}\n" in out
    assert "non-finite" in out


def test_show_as_json(run, folder):
    code, out, err = run("show", "a.fmstats", "--json")
    assert (code, err) == (0, "")
    content = json.loads(out, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert content["metadata"]["samples"] == 10
    assert [row["layer"] for row in content["layers"]] == ["b.conv", "a.relu", "head"]
    assert content["layers"][2]["count"] == 8
    assert content["layers"][0]["saturated"] is None
    assert content["findings"][0]["rule"] == "non-finite"
    assert content["findings"][0]["layer"] == "b.conv"


def shown(out):
    """The first cells of the rows of the table."""
    lines = out.split("\n\n")[1].splitlines()
    assert lines[0].startswith("layer ")
    return [line.split()[0] for line in lines[1:]]


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ((), ["b.conv", "a.relu", "head"]),
        (("--sort", "channels"), ["b.conv", "a.relu", "head"]),
        (("--sort", "-channels"), ["head", "a.relu", "b.conv"]),
        (("--sort=-channels", "--top", 1), ["head"]),
        (("--sort", "layer"), ["a.relu", "b.conv", "head"]),
        (("--sort", "nan+inf", "--top", 2), ["b.conv", "a.relu"]),
        (("--sort", "saturated"), ["a.relu", "b.conv", "head"]),
        (("--sort", "-saturated"), ["a.relu", "b.conv", "head"]),  # no value: last
        (("--layer", "?.*", "--sort", "-layer"), ["b.conv", "a.relu"]),
        (("--layer", "head", "--layer", "a.relu"), ["a.relu", "head"]),
        (("--depth", 1, "--sort", "layer", "--top", 2), ["a", "b"]),
        (("--layer", "a.*", "--depth", 1), ["a"]),
    ],
)
def test_rows_are_chosen_alike_in_text_json_and_csv(run, folder, options, layers):
    code, out, err = run("show", "a.fmstats", *options)
    assert (code, err) == (0, "")
    assert shown(out) == layers
    code, out, err = run("show", "a.fmstats", *options, "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)["layers"]
    assert [row["layer"] for row in rows] == layers
    code, out, err = run("show", "a.fmstats", *options, "--csv")
    assert (code, err) == (0, "")
    lines = list(csv.DictReader(out.splitlines()))
    assert [list(line) for line in lines] == [list(row) for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert line == {key: "" if x is None else str(x) for key, x in row.items()}


def test_no_table_for_no_rows(run, folder):
    code, out, _ = run("show", "a.fmstats", "--top", 0)
    assert code == 0
    assert "mean spread" not in out
    assert "\n\nFindings\n" in out
    header = run("show", "a.fmstats", "--csv")[1].splitlines()[0]
    assert header.startswith("layer,type,channels,count,mean,")
    assert run("show", "a.fmstats", "--top", 0, "--csv") == (0, f"{header}\n", "")
    save(profile_of({}), "empty.fmstats")
    assert run("show", "empty.fmstats", "--csv") == (0, f"{header}\n", "")
    assert "\n\nno layer was measured: see coverage()\n" in run("show", "empty.fmstats")[1]


def test_a_file_is_not_merged_twice(run, folder):
    code, _, err = run("merge", "a.fmstats", "b.fmstats", "a.fmstats", "--out", "all.fmstats")
    assert code == 2
    assert "'a.fmstats' and 'a.fmstats' are the same profile: its data would count twice" in err


def test_merge(run, folder):
    code, out, err = run("merge", "a.fmstats", "b.fmstats", "c.fmstats", "--out", "all.fmstats")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "3 profiles, 3 layers",
        "samples: 30, seconds: 1.5",
        "merged from 3 profiles: a.fmstats, b.fmstats, c.fmstats",
        "from 2026-01-01 to 2026-01-04",
        "not the same in all of them: data",
        "Written to all.fmstats",
    ]
    names = [f"{name}.fmstats" for name in "abc"]
    assert_same_profiles(fmstats.load("all.fmstats"), merge_files(names))
    code, out, _ = run("show", "all.fmstats")
    assert code == 0
    assert "merged from 3 profiles: a.fmstats, b.fmstats, c.fmstats\n" in out


def test_merge_into_one_of_them(run, folder):
    want = merge_files(["a.fmstats", "b.fmstats"])
    assert run("merge", "a.fmstats", "b.fmstats", "--out", "a.fmstats")[0] == 0
    assert_same_profiles(fmstats.load("a.fmstats"), want)


def test_merge_to_json(run, folder):
    assert run("merge", "a.fmstats", "b.fmstats", "--out", "both.json")[0] == 0
    assert json.loads((folder / "both.json").read_text())["metadata"]["samples"] == 20


def test_one_file_can_be_written_as_another(run, folder):
    assert run("merge", "a.fmstats", "--out", "all.json")[0] == 0
    content = json.loads((folder / "all.json").read_text())
    assert content["layers"]["head"]["count"] == [4, 4]
    assert content["layers"]["b.conv"]["mean"][1] is None


def test_merge_of_missing_layers(run, folder):
    head = some_profile(3).info["head"]
    save(profile_of({"head": head, "new": head}, structure="2" * 64), "b.fmstats")
    code, _, err = run("merge", "a.fmstats", "b.fmstats", "--out", "x.fmstats")
    assert code == 2
    assert "'b.fmstats' does not fit the files before it: cannot merge profiles of diff" in err
    assert "--missing drop" in err
    assert not (folder / "x.fmstats").exists()
    arguments = ("merge", "a.fmstats", "b.fmstats", "--out", "x.fmstats")
    assert run(*arguments, "--missing", "drop")[0] == 0
    assert list(fmstats.load("x.fmstats")) == ["head"]
    code, _, err = run(*arguments, "--only-common")
    assert code == 0
    assert err == "fmstats: --only-common is deprecated: use --missing drop\n"
    assert list(fmstats.load("x.fmstats")) == ["head"]
    assert run(*arguments, "--missing", "keep")[0] == 0
    assert list(fmstats.load("x.fmstats")) == [*fmstats.load("a.fmstats"), "new"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "absent.fmstats"], "cannot read profile 'absent.fmstats': there is no such file"),
        (["show", "x.json"], "cannot read profile 'x.json': it is no .fmstats profile, but JSON"),
        (["show"], "FILE"),
        (["show", "a.fmstats", "--sort", "colour"], "there is no column 'colour'; choose from lay"),
        (["show", "a.fmstats", "--layer", "x*"], "--layer: 'x*' matches none of the tracked layer"),
        (["show", "a.fmstats", "--json", "--csv"], "--json and --csv exclude each other"),
        (["show", "a.fmstats", "--depth", "0"], "--depth"),
        (["show", "a.fmstats", "--top", "-1"], "--top"),
        (["merge", "a.fmstats", "--out", "o.txt"], "a result ends in .fmstats, .json or .csv"),
        (["merge", "a.fmstats", "--out", "no/o.fmstats"], "there is no folder 'no'"),
        (["merge", "a.fmstats", "x.json", "--out", "o.fmstats"], "cannot read profile 'x.json'"),
        (["merge", "--out", "o.fmstats"], "FILES"),
        (["merge", "a.fmstats"], "--out"),
    ],
)
def test_mistakes_are_one_line_and_code_2(run, folder, arguments, message):
    (folder / "x.json").write_text("{}")
    before = sorted(os.listdir())
    code, out, err = run(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in out + err
    assert sorted(os.listdir()) == before


def test_a_run_is_saved_shown_and_merged(run, folder):
    Path("some_file_net.py").write_text(NET)
    for name in ("x", "y"):
        arguments = ("some_file_net.py:net", "--data", "some_file_net.py:batches")
        code, out, err = run("profile", *arguments, "--out", f"{name}.fmstats")
        assert (code, err) == (0, "")
        assert out.endswith(f"\nWritten to {name}.fmstats\n")
    assert run("merge", "x.fmstats", "y.fmstats", "--out", "z.fmstats")[0] == 0
    both = fmstats.load("z.fmstats")
    assert both.metadata["samples"] == 24
    assert both["0"].count.tolist() == [24 * 36] * 4
    assert run("show", "z.fmstats")[0] == 0


def test_a_run_prints_what_is_asked_for(run, folder):
    Path("some_file_net.py").write_text(NET)
    arguments = ("profile", "some_file_net.py:net", "--data", "some_file_net.py:batches")
    code, out, err = run(*arguments, "--sort", "sparsity", "--top", 1, "--depth", 1)
    assert (code, err) == (0, "")
    assert shown(out) == ["1"]
    code, out, err = run(*arguments, "--top", 1, "--json", "--out", "x.fmstats")
    assert (code, err) == (0, "")
    content = json.loads(out)
    assert [row["layer"] for row in content["layers"]] == ["0"]
    assert content["metadata"]["samples"] == 12
    assert list(fmstats.load("x.fmstats")) == ["0", "1"]
    code, out, err = run(*arguments, "--csv")
    assert (code, err) == (0, "")
    assert [row["layer"] for row in csv.DictReader(out.splitlines())] == ["0", "1"]
    code, out, err = run("profile", "absent.py:net", "--data", "x", "--sort", "colour")
    assert (code, out) == (2, "")
    assert err.startswith("error: there is no column 'colour'")  # before any work


def test_an_odd_profile_is_shown_all_the_same(run, folder):
    """Metadata from a file can be anything."""
    x = layer_of(torch.randn(3, 2))
    odd = {"samples": None, "seconds": "x", "coverage": {"a": 1}, "skipped": 5, "differs": 7}
    save(profile_of({"a": x}, sources=3, profiles="many", started=1, **odd), "odd.fmstats")
    assert run("show", "odd.fmstats")[0] == 0
    save(profile_of({"a": x}, coverage=[5, {"name": "b"}], profiles=True), "odd.fmstats")
    code, out, _ = run("show", "odd.fmstats")
    assert code == 0
    assert "Not measured\n  b (None): None\n" in out
