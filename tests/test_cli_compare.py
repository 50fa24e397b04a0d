"""`fmstats compare`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import fmstats
from fmstats.storage import save

pytest.importorskip("typer", reason="needs typer")

Run = Callable[..., tuple[object, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profiles")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)).eval()
    for name, factor in (("a", 1), ("b", 1), ("c", 1), ("same", 1), ("other", 3)):
        images = factor * torch.randn(30, 3, 8, 8)
        save(fmstats.profile(net, [images], progress=False), folder / f"{name}.fmstats")
    save(fmstats.profile(net, [images[:4]], progress=False), folder / "few.fmstats")
    save(fmstats.profile(net[:2], [images], progress=False), folder / "short.fmstats")
    few_nan, most_nan = torch.randn(30, 3, 8, 8), torch.randn(30, 3, 8, 8)
    few_nan[0, 0, 0, 0], most_nan[1:, 0] = torch.nan, torch.nan
    seen = nn.Sequential(nn.Identity(), nn.ReLU())
    whole = torch.randn(30, 3, 8, 8)
    for name, x in (("few-nan", few_nan), ("most-nan", most_nan), ("no-nan", whole)):
        profile = fmstats.profile(seen, [x], progress=False)
        profile.metadata["samples"] = 30
        save(profile, folder / f"{name}.fmstats")
    trained = fmstats.profile(net, [images], progress=False)
    trained.metadata["when"] = "train"
    save(trained, folder / "train.fmstats")
    return folder


@pytest.fixture
def run(command_line: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `fmstats compare`; return exit code, stdout, stderr."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")

    return partial(command_line, "compare")


SHARDS = ("a.fmstats", "b.fmstats", "c.fmstats")


def test_text(run: Run) -> None:
    code, out, err = run("same.fmstats", *SHARDS, "--top", "2")
    assert (code, err) == (0, "")
    title, _, verdict, evidence, *rest = out.splitlines()
    assert title == "same.fmstats against a.fmstats, b.fmstats, c.fmstats"
    assert verdict.startswith("no drift: score ")
    assert "30 samples against 90, 3 layers" in evidence
    assert "3 shards of the baseline" in evidence
    assert [line.split()[0] for line in rest if line][0::3] == ["layer", "layer"]


def test_without_shards_chance_is_assumed(run: Run) -> None:
    code, out, _ = run("same.fmstats", "a.fmstats")
    assert code == 0
    assert "assumed to be that of photographs" in out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("other.fmstats", *SHARDS), 0),
        (("other.fmstats", *SHARDS, "--fail-on-drift"), 1),
        (("other.fmstats", *SHARDS, "--fail-on-drift", "--threshold", "1000"), 0),
        (("same.fmstats", "a.fmstats", "--fail-on-drift"), 0),
        (("same.fmstats", "a.fmstats", "--fail-on-drift", "--threshold", "0.001"), 1),
        (("most-nan.fmstats", "few-nan.fmstats", "--fail-on-drift"), 1),
        (("few-nan.fmstats", "no-nan.fmstats", "--fail-on-drift"), 0),
        (("few.fmstats", "a.fmstats"), 0),
        (("few.fmstats", "a.fmstats", "--fail-on-drift"), 2),
    ],
)
def test_exit_codes(run: Run, arguments: tuple[str, ...], code: int) -> None:
    assert run(*arguments)[0] == code


def test_json(run: Run) -> None:
    code, out, err = run("other.fmstats", *SHARDS, "--json", "--top", "1", "--fail-on-drift")
    assert (code, err) == (1, "")
    found = json.loads(out, parse_constant=pytest.fail)
    assert found["verdict"] == "drift"
    assert found["score"] >= found["threshold"] == 1.5
    assert found["calibration_samples"] == [30, 30, 30]
    assert len(found["layers"]) == len(found["channels"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("short.fmstats", "a.fmstats"), "layers differ: '2' (in the baseline only). "),
        (("absent.fmstats", "a.fmstats"), "absent.fmstats"),
        (("train.fmstats", "a.fmstats", "--missing", "drop"), "made with when='train' and when="),
        (("same.fmstats", "a.fmstats", "--threshold", "-1"), "give a finite score above 0"),
        (("same.fmstats", "a.fmstats", "--threshold", "inf", "--json"), "give a finite score"),
        (("same.fmstats", "a.fmstats", "b.fmstats", "short.fmstats"), "(--missing drop) merges"),
    ],
)
def test_mistakes(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err


def test_missing_layers_are_dropped(run: Run) -> None:
    code, out, err = run("short.fmstats", "a.fmstats", "--missing", "drop")
    assert (code, err) == (0, "")
    assert "not compared: 1 layer" in out


def test_the_old_way_to_drop_missing_layers(run: Run) -> None:
    code, out, err = run("short.fmstats", "a.fmstats", "--only-common")
    assert err == "fmstats: --only-common is deprecated: use --missing drop\n"
    assert (code, out) == run("short.fmstats", "a.fmstats", "--missing", "drop")[:2]


@pytest.mark.parametrize("baseline", [("a.fmstats", "short.fmstats"), ("short.fmstats", *SHARDS)])
def test_dropping_of_a_baseline_of_several_files(run: Run, baseline: tuple[str, ...]) -> None:
    code, out, err = run("same.fmstats", *baseline, "--missing", "drop")
    assert (code, err) == (0, "")
    assert ", 2 layers; the size of chance differences" in out
    assert "not compared: 1 layer" in out


def test_two_files_are_compared_without_calibration(run: Run) -> None:
    code, out, err = run("same.fmstats", "a.fmstats", "b.fmstats")
    assert (code, err) == (0, "")
    assert "30 samples against 60, 3 layers; the size of chance differences is assumed" in out
    assert "drift if score >= 2.5" in out
    note = "2 files of a baseline do not show how much profiles differ by chance: give 3 or more"
    assert f"\n  {note}\n" in out
    found = json.loads(run("same.fmstats", "a.fmstats", "b.fmstats", "--json")[1])
    assert found["reasons"] == [note]
    assert note not in run("same.fmstats", "a.fmstats")[1]
    assert note not in run("same.fmstats", *SHARDS)[1]


@pytest.mark.parametrize(
    "arguments", [("other.fmstats", *SHARDS, "copy.fmstats"), ("a.fmstats", "a.fmstats")]
)
def test_what_is_in_question_is_no_part_of_its_baseline(
    run: Run, folder: Path, arguments: tuple[str, ...]
) -> None:
    """Else its own data would be what chance gives: a glob may take more than it should."""
    (folder / "copy.fmstats").write_bytes((folder / "other.fmstats").read_bytes())
    code, _, err = run(*arguments)
    assert code == 2
    assert f"'{arguments[0]}' and '{arguments[-1]}' are the same profile: leave one out" in err


def test_help_tells_the_exit_codes(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert "Examples:\n    fmstats compare" in out
    assert "1  there is drift, and --fail-on-drift is given" in out
