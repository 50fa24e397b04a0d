"""`fmstats rank`, `fmstats export`, and what `fmstats show` prints beside its table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from profile_files import some_profile

from fmstats import Profile
from fmstats.storage import save

pytest.importorskip("typer", reason="needs typer")
pd = pytest.importorskip("pandas", reason="needs pandas")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    found = some_profile(0, samples=10)
    save(found, "run.fmstats")
    return found


@pytest.fixture
def run(command_line: Run) -> Run:
    return command_line


@pytest.mark.parametrize("command", ["rank", "export"])
def test_help_teaches_by_example(run: Run, command: str) -> None:
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert f"Examples:\n    fmstats {command} " in out
    assert f"  {command} " in run("--help")[1]


def test_rank_prints_the_rows_of_the_method(run: Run, profile: Profile) -> None:
    rows = profile.rank("std", top=3)
    code, out, err = run("rank", "run.fmstats", "--by", "std", "--top", "3")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    channels = sum(stats.channels for stats in profile.values())
    assert lines[0] == f"run.fmstats: 3 of {channels} channels, largest std first"
    assert lines[2].split() == ["layer", "type", "channel", "std", "mean", "sparsity", "max"]
    found = [(line.split()[0], int(line.split()[2])) for line in lines[3:]]
    assert found == [(row["layer"], row["channel"]) for row in rows]
    _, text, _ = run("rank", "run.fmstats", "--by", "std", "--top", "3", "--json")
    told = json.loads(text)
    assert (told["by"], told["ascending"]) == ("std", False)
    assert told["channels"] == rows
    _, text, _ = run("rank", "run.fmstats", "--by", "std", "--top", "3", "--csv")
    assert [float(row["std"]) for row in csv.DictReader(io.StringIO(text))] == [
        row["std"] for row in rows
    ]


def test_rank_of_a_share_and_of_some_layers(run: Run, profile: Profile) -> None:
    name, stats = next(iter(profile.items()))
    _, text, _ = run("rank", "run.fmstats", "--layer", name, "--share", "50%", "--json")
    assert len(json.loads(text)["channels"]) == -(-stats.channels // 2)
    _, text, _ = run("rank", "run.fmstats", "--type", "*", "--ascending", "--json", "--top", "1")
    assert json.loads(text)["channels"] == profile.rank("sparsity", 1, ascending=True)
    code, _, err = run("rank", "run.fmstats", "--share", "some")
    assert (code, err) == (2, "error: --share 'some' is no number: write 10% or 0.1\n")
    code, _, err = run("rank", "run.fmstats", "--by", "sparcity")
    assert code == 2
    assert "no layer has such a number; closest: sparsity" in err


def test_export_writes_what_the_methods_return(run: Run, profile: Profile) -> None:
    code, out, err = run("export", "run.fmstats", "--out", "channels.csv")
    frame = profile.to_pandas()
    assert (code, err) == (0, "")
    assert out == f"Written to channels.csv: {len(frame)} rows, {len(frame.columns)} columns\n"
    assert_same(pd.read_csv("channels.csv"), frame)
    assert run("export", "run.fmstats")[1] == Path("channels.csv").read_text()
    assert run("export", "run.fmstats", "--out", "layers.json", "--by", "layer")[0] == 0
    assert_same(pd.DataFrame(json.loads(Path("layers.json").read_text())), profile.layers())


def test_export_to_parquet(run: Run, profile: Profile) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    assert run("export", "run.fmstats", "--out", "channels.parquet")[0] == 0
    assert_same(pd.read_parquet("channels.parquet"), profile.to_pandas())


def test_export_of_some_numbers_of_some_layers(run: Run, profile: Profile) -> None:
    name, stats = next(iter(profile.items()))
    _, text, _ = run("export", "run.fmstats", "--layer", name, "--stats", "std, mean", "--json")
    rows = json.loads(text)
    assert [list(row) for row in rows] == [["layer", "type", "channel", "std", "mean"]] * len(rows)
    assert [row["mean"] for row in rows] == [None if x != x else x for x in stats.mean]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stats", "men"], "a row per channel has no 'men'; closest: mean; choose from layer, "),
        (["--by", "layer", "--stats", "m2"], "a row per layer has no 'm2'"),
        (["--out", "x.txt"], "cannot write 'x.txt': a table ends in .csv, .json or .parquet"),
        (["--out", "no/x.csv"], "cannot write 'no/x.csv'"),
        (
            ["--out", "x.csv", "--json"],
            "--json and --csv print: leave them out, or leave out --out",
        ),
        (["--csv", "--json"], "--json and --csv exclude each other"),
    ],
)
def test_export_refuses(run: Run, profile: Profile, arguments: list[str], message: str) -> None:
    code, out, err = run("export", "run.fmstats", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert not Path("x.csv").exists()


def test_show_tells_the_order_and_can_leave_out_the_findings(run: Run, profile: Profile) -> None:
    _, out, _ = run("show", "run.fmstats", "--sort", "-std", "--top", "1", "--no-findings")
    lines = out.splitlines()
    assert lines[1] == "sorted by std, the first 1 row"
    assert "Findings" not in out
    assert "Findings" in run("show", "run.fmstats")[1]
    assert "sorted" not in run("show", "run.fmstats")[1]
    _, text, _ = run("show", "run.fmstats", "--json", "--no-findings")
    assert "findings" not in json.loads(text)


def assert_same(found: object, expected: object) -> None:
    a, b = (pd.DataFrame(each).astype(object) for each in (found, expected))
    a, b = (each.where(each.notna(), None).map(_plain) for each in (a, b))
    pd.testing.assert_frame_equal(a, b, check_dtype=False)


def _plain(value: object) -> object:
    """JSON has no infinity."""
    return None if isinstance(value, float) and value in (float("inf"), -float("inf")) else value
