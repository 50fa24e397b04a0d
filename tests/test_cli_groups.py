"""The command line with a mask and groups: of a run, and of files that have groups."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import fmstats

pytest.importorskip("typer", reason="needs typer")

Run = Callable[..., tuple[object, str, str]]

NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__()
        self.token, self.strided = nn.Embedding(9, 4), nn.Conv1d(4, 2, 2, stride=2)
    def forward(self, input_ids, attention_mask=None, labels=None):
        return self.strided(self.token(input_ids).mT)
def batches():
    torch.manual_seed(1)
    mask = torch.arange(6) < torch.tensor([[2], [4], [6], [6]] * 5)
    labels = torch.tensor([0, 1, 1, 0] * 5)
    for factor in (1, 1, 1):
        ids = torch.randint(9, (20, 6))
        yield {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    Path("net.py").write_text(NET)
    return tmp_path


@pytest.fixture
def run(command_line: Run, folder: Path) -> Run:
    """Run a command line; return exit code, stdout, stderr."""
    return command_line


def profile(run: Run, *options: object, out: str = "run.fmstats") -> tuple[str, str]:
    """What a run printed on stdout and stderr; its profile is in a file."""
    known = ("profile", "net.py:Net", "--data", "net.py:batches", "--no-progress")
    code, text, err = run(*known, *options, "--out", out)
    assert code == 0, err
    return text, err


GROUPED = ("--groups", "labels", "--group-name", "cat", "--group-name", "dog")


def test_masked_positions_do_not_count(run: Run) -> None:
    profile(run)
    assert fmstats.load("run.fmstats")["token"].count[0] == 3 * 20 * 6
    for asked in ("auto", "attention_mask"):
        _, err = profile(run, "--mask", asked)
        assert fmstats.load("run.fmstats")["token"].count[0] == 3 * 5 * (2 + 4 + 6 + 6)
        assert "strided" not in fmstats.load("run.fmstats")
        assert "strided (Conv1d): unmasked, 3 tensors left out" in err


def test_what_the_mask_does_not_fit_is_counted_where_that_is_asked_for(run: Run) -> None:
    text, _ = profile(run, "--mask", "auto", "--mask-mismatch", "count")
    assert fmstats.load("run.fmstats")["strided"].count[0] == 3 * 20 * 3
    told = "1 layer was counted without the mask: strided"
    assert told in text
    assert told in run("show", "run.fmstats")[1]
    assert told in run("diagnose", "run.fmstats")[1]
    known = ("profile", "net.py:Net", "--data", "net.py:batches")
    code, _, err = run(
        *known, "--mask", "auto", "--mask-mismatch", "raise", "--on-bad-sample", "raise"
    )
    assert code == 2
    assert "'count' counts all of them" in err


def test_groups_of_a_run(run: Run) -> None:
    text, _ = profile(run, *GROUPED)
    line = "2 groups: cat (900 elements), dog (900 elements)"
    assert line in text
    assert f"\n{line}\n" in run("show", "run.fmstats")[1]
    found = fmstats.load("run.fmstats").groups
    assert list(found) == ["cat", "dog"]
    assert found["dog"]["token"].count[0] == 3 * 10 * 6
    content = json.loads(run("show", "run.fmstats", "--json")[1])
    assert content["groups"] == {"cat": 900, "dog": 900}
    profile(run)
    assert "groups" not in json.loads(run("show", "run.fmstats", "--json")[1])


def test_more_groups_than_asked_for_are_refused(run: Run) -> None:
    known = ("profile", "net.py:Net", "--data", "net.py:batches")
    asked = ("--groups", "labels", "--max-groups", 1, "--mask-mismatch", "raise")
    code, _, err = run(*known, *asked)
    assert code == 2
    assert "group 1 is beyond max_groups=1" in err
    code, _, err = run(*known, "--groups", "label")
    assert code == 2
    assert "groups='label': forward() of Net has no such argument; closest: labels" in err


def test_one_group_is_shown(run: Run) -> None:
    profile(run, *GROUPED)
    code, out, err = run("show", "run.fmstats", "--group", "dog")
    assert (code, err) == (0, "")
    group = fmstats.load("run.fmstats").groups["dog"]
    assert out.startswith("run.fmstats, group dog: 2 layers of Net, 6 channels\nsamples: 30, ")
    assert f"\n\n{group}\n\nFindings\n{group.diagnose()}\n" in out
    rows = json.loads(run("show", "run.fmstats", "--group", "dog", "--json")[1])["layers"]
    assert [row["count"] for row in rows] == [4 * 180, 2 * 90]


def test_one_group_is_diagnosed(run: Run) -> None:
    profile(run, *GROUPED)
    code, out, err = run("diagnose", "run.fmstats", "--group", "cat")
    assert (code, err) == (0, "")
    assert out == f"{fmstats.load('run.fmstats').groups['cat'].diagnose()}\n"


@pytest.mark.parametrize("command", ["show", "diagnose", "compare"])
def test_an_unknown_group_is_refused(run: Run, command: str) -> None:
    profile(run, *GROUPED)
    profile(run, out="plain.fmstats")
    other = ("plain.fmstats",) if command == "compare" else ()
    code, _, err = run(command, "run.fmstats", *other, "--group", "cow")
    assert code == 2
    assert err == "error: group 'cow': 'run.fmstats' has cat, dog\n"
    other = ("run.fmstats",) if command == "compare" else ()
    code, _, err = run(command, "plain.fmstats", *other, "--group", "cat")
    assert code == 2
    assert "group 'cat': 'plain.fmstats' has no groups; groups= (--groups) of the run" in err


def test_groups_are_compared(run: Run) -> None:
    profile(run, *GROUPED)
    profile(run, *GROUPED, out="old.fmstats")
    code, out, err = run("compare", "run.fmstats", "old.fmstats", "--group", "dog")
    assert (code, err) == (0, "")
    assert out.startswith("run.fmstats, group dog against old.fmstats, group dog\n")
    asked = ("--group", "cat", "--baseline-group", "dog", "--json")
    code, out, err = run("compare", "run.fmstats", "run.fmstats", *asked)
    assert (code, err) == (0, "")
    groups = fmstats.load("run.fmstats").groups
    assert json.loads(out)["score"] == pytest.approx(groups["cat"].compare(groups["dog"]).score)


def test_groups_that_cannot_be_compared_are_refused(run: Run) -> None:
    profile(run, *GROUPED)
    code, _, err = run("compare", "run.fmstats", "run.fmstats", "--group", "cat")
    assert code == 2
    assert "are the same profile" in err
    code, _, err = run("compare", "run.fmstats", "run.fmstats", "--baseline-group", "cat")
    assert code == 2
    assert "--baseline-group is given without --group" in err


def test_merging_keeps_groups(run: Run) -> None:
    profile(run, *GROUPED)
    profile(run, *GROUPED, out="old.fmstats")
    code, out, err = run("merge", "run.fmstats", "old.fmstats", "--out", "both.fmstats")
    assert (code, err) == (0, "")
    assert "\n2 groups: cat (1,800 elements), dog (1,800 elements)\n" in out
    both = fmstats.load("both.fmstats")
    assert torch.equal(torch.from_numpy(both.groups["cat"]["token"].count), torch.full((4,), 360))
    assert run("merge", "both.fmstats", "--out", "both.json")[0] == 0
    content = json.loads(Path("both.json").read_text())
    assert content["groups"]["dog"]["token"]["count"] == [360] * 4
