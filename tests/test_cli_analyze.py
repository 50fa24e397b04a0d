"""`fmstats analyze`: what it prints and writes, and one line with exit code 2 for every mistake."""

from __future__ import annotations

import csv
import json
import sys
from functools import partial

import pytest

from fmstats.cli import main

pytest.importorskip("typer", reason="needs typer")

NET = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 8, 2, 2), nn.ReLU())
        )
class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(10, 4), nn.Linear(4, 2)
    def forward(self, ids, scale=None):
        x = self.words(ids)
        return self.head(x if scale is None else x * scale)
class Choosing(nn.Linear):
    def forward(self, x):
        return super().forward(x[x > 0].new_ones(2, self.in_features))
def choosing(): return Choosing(4, 2)
"""
SPEC = ("some_analyzed_net.py:Net", "--input", "1,3,10,10")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "some_analyzed_net.py").write_text(NET)
    yield tmp_path
    for name in [name for name in sys.modules if "some_analyzed_net" in name]:
        del sys.modules[name]


@pytest.fixture
def run(command_line, folder):
    """Run `fmstats analyze`; return exit code, stdout, stderr."""
    return partial(command_line, "analyze")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_teaches_by_example(run, option):
    code, out, err = run(option)
    assert (code, err) == (0, "")
    assert "Usage: fmstats analyze" in out
    assert "Examples:\n    fmstats analyze net.py:make_net --input 1,3,224,224" in out


def test_it_stands_among_the_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert out.index("  profile ") < out.index("  analyze ") < out.index("  backends ")


def test_table_totals_and_stages(run):
    code, out, err = run(*SPEC)
    assert (code, err) == (0, "")
    assert out.startswith("some_analyzed_net.py:Net on 1,3,10,10\n\nlayer  type    output   params")
    assert [line.split()[0] for line in out.splitlines()[3:7]] == ["0", "1", "2.0", "2.1"]
    assert "MACs" in out
    assert "\nStages\n" in out


def test_options_shape_the_table(run):
    _, out, _ = run(*SPEC, "--depth", 1, "--macs", "--gpu", "H100")
    header, *rows = out.splitlines()[2:6]
    assert "  MACs  " in header
    assert header.endswith("FLOPs/byte  bound by")
    assert [row.split()[0] for row in rows] == ["0", "1", "2"]
    assert rows[2].split()[1] == "Sequential"
    _, out, _ = run(*SPEC, "--columns", "name, params,traffic_bytes")
    assert out.splitlines()[2].split() == ["layer", "params", "traffic"]


def test_summary_and_stages_alone(run):
    _, full, _ = run(*SPEC)
    _, summary, _ = run(*SPEC, "--summary")
    _, stages, _ = run(*SPEC, "--stages")
    assert (
        summary.splitlines()[2]
        == "248 parameters (992 B), 8.96 kMACs (17.9 kFLOPs) for a batch of 1"
    )
    assert full.endswith(summary.partition("\n\n")[2])
    assert stages.splitlines()[2].split()[:2] == ["resolution", "channels"]
    assert "parameters" not in stages


def test_several_inputs_and_their_dtypes(run):
    words = "some_analyzed_net.py:Words"
    flops = 2 * 2 * 5 * 8
    for arguments in (
        ("--input", "2,5", "--dtype", "int64"),
        ("--input", "2x5:int32"),
        ("--input", "2,5:int64", "--input", "4"),
        ("--input", "ids=2,5:int64"),
        ("--input", "scale=4", "--input", "ids=2,5:int64"),
        ("--input", "scale=4:float32", "--input", "ids=2,5", "--dtype", "int64"),
    ):
        code, _, err = run(words, *arguments, "--out", "a.json")
        assert (code, err) == (0, "")
        with open("a.json") as file:
            assert json.load(file)["totals"]["flops"] == flops


def test_a_real_device_where_values_matter(run):
    code, _, err = run("some_analyzed_net.py:choosing", "--input", "3,4")
    assert code == 2
    assert "device='cpu'" in err
    code, out, err = run("some_analyzed_net.py:choosing", "--input", "3,4", "--device", "cpu")
    assert (code, err) == (0, "")
    assert "10 parameters" in out


def test_files(run, folder):
    for suffix in ("json", "csv", "md"):
        code, out, err = run(*SPEC, "--out", f"a.{suffix}")
        assert (code, err) == (0, "")
        assert out.endswith(f"\nWritten to a.{suffix}\n")
    content = json.loads((folder / "a.json").read_text())
    assert [row["name"] for row in content["rows"]] == ["0", "1", "2.0", "2.1"]
    assert content["rows"][0]["output_shape"] == [1, 4, 8, 8]
    with open("a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["output_shape"], row["macs"]) for row in rows[:2]] == [
        ("0", "1x4x8x8", str(64 * 4 * 27)),
        ("1", "1x4x8x8", "0"),
    ]
    lines = (folder / "a.md").read_text().splitlines()
    assert lines[0].startswith("| layer | type | output | params |")
    assert len(lines) == 2 + 4


def test_rows_are_chosen_alike_in_text_json_csv_and_files(run, folder):
    options = ("--depth", 1, "--sort", "-params", "--top", 2)
    code, out, err = run(*SPEC, *options, "--out", "a.md")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[3:5]] == ["1", "0"]
    assert out.splitlines()[5] == ""
    assert len((folder / "a.md").read_text().splitlines()) == 2 + 2
    code, out, err = run(*SPEC, *options, "--json", "--out", "a.json")
    assert (code, err) == (0, "")
    content = json.loads(out)
    assert [(row["name"], row["params"]) for row in content["rows"]] == [("1", 0), ("0", 112)]
    assert content["totals"]["params"] == 248
    assert (folder / "a.json").read_text() == out
    code, out, err = run(*SPEC, *options, "--csv", "--out", "a.csv")
    assert (code, err) == (0, "")
    assert [row["name"] for row in csv.DictReader(out.splitlines())] == ["1", "0"]
    assert (folder / "a.csv").read_text() == out
    header = out.splitlines()[0]
    assert run(*SPEC, "--top", 0, "--csv") == (0, f"{header}\n", "")


def test_the_column_sorted_by_is_shown(run):
    _, out, _ = run(*SPEC, "--sort", "traffic_bytes", "--columns", "name,params")
    header, *rows = out.splitlines()[2:7]
    assert header.split() == ["layer", "params", "traffic"]
    assert [row.split()[0] for row in rows] == ["0", "2.0", "1", "2.1"]


def test_sorting_by_a_title_of_a_column_that_is_shown_adds_none(run):
    _, plain, _ = run(*SPEC)
    _, out, _ = run(*SPEC, "--sort", "-activations")
    header, *rows = out.splitlines()[2:7]
    assert header == plain.splitlines()[2]
    assert "activations" in header
    assert [row.split()[0] for row in rows] == ["2.0", "2.1", "0", "1"]


NET_SPEC = "some_analyzed_net.py:Net"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([NET_SPEC], "--input"),
        ([NET_SPEC, "--input", "1;3"], "error: --input '1;3' is not a size: write 1,3,224,224"),
        ([NET_SPEC, "--input", "1,-3"], "error: --input '1,-3' is not a size"),
        ([NET_SPEC, "--input", "1,3:int65"], "there is no dtype 'int65': choose from float32"),
        ([NET_SPEC, "--input", "1,3", "--dtype", "Tensor"], "--dtype: there is no dtype 'Tensor'"),
        (
            [NET_SPEC, "--input", "a=1,3", "--input", "1,3"],
            "--input a=1,3 --input 1,3: give each input a name of its own, or none a name",
        ),
        ([NET_SPEC, "--input", "a=1", "--input", "a=2"], "give each input a name of its own"),
        (
            [NET_SPEC, "--input", "1,4,10,10"],
            "error: layer '0' raised RuntimeError: Given groups=1, weight of size [4, 3, 3, 3]",
        ),
        ([*SPEC, "--gpu", "K80"], "error: gpu='K80' is not known; closest: "),
        (
            [*SPEC, "--columns", "name,colour"],
            "error: there is no column 'colour'; choose from layer (name)",
        ),
        ([*SPEC, "--depth", "0"], "depth"),
        (
            [*SPEC, "--sort", "colour"],
            "error: there is no column 'colour'; choose from layer (name)",
        ),
        ([*SPEC, "--json", "--csv"], "--json and --csv exclude each other"),
        ([*SPEC, "--device", "gpu"], "error: device='gpu' is not known"),
        (["absent.py:Net", *SPEC[1:], "--out", "a.xml"], "an analysis ends in .json, .csv or .md"),
        ([*SPEC, "--out", "no/a.md"], "there is no folder 'no'"),
        (["absent.py:Net", *SPEC[1:]], "error: 'absent.py:Net': there is no file 'absent.py'"),
    ],
)
def test_mistakes_are_one_line_and_code_2(run, folder, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    if err.startswith("error: "):
        assert err.count("\n") == 1
    assert not list(folder.glob("a.*"))
