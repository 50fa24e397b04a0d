"""What the shell offers where a word begins, by typer's own protocol and in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from profile_files import layer_of

import fmstats
from fmstats.backends import BACKENDS
from fmstats.diagnosis import RULES
from fmstats.profiles.profile import Profile

pytest.importorskip("typer", reason="needs typer")

Run = Callable[..., tuple[object, str, str]]
Offer = Callable[[str], list[str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("run.fmstats", "rest.fmstats", "old.fmstats", "run.txt", "net.py", "net.pt2"):
        Path(name).touch()
    rows = {"layer": layer_of(torch.ones(4, 2))}
    groups = dict.fromkeys(("cat", "cattle", "dog", "a word"), rows)
    Profile(rows, {}, groups).save("grouped.fmstats")
    Path("runs").mkdir()
    Path("runs/may 1.fmstats").touch()
    return tmp_path


@pytest.fixture
def offer(command_line: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """What is offered for the last word of a command line."""

    def ask(line: str) -> list[str]:
        monkeypatch.setenv("_FMSTATS_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        code, out, err = command_line()
        assert (code, err) == (0, "")
        return list(filter(None, out.splitlines()))

    return ask


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("fmstats sh", ["show"]),
        ("fmstats show ru", ["run.fmstats"]),
        ("fmstats show ", ["grouped.fmstats", "old.fmstats", "rest.fmstats", "run.fmstats"]),
        ("fmstats show runs/", ["runs/may 1.fmstats"]),
        ("fmstats show absent/", []),
        ("fmstats show runs", []),  # the shell itself completes folders
        ("fmstats diagnose o", ["old.fmstats"]),
        ("fmstats compare run.fmstats re", ["rest.fmstats"]),
        ("fmstats merge run.fmstats old.fmstats re", ["rest.fmstats"]),
        ("fmstats show run.fmstats --sort sp", ["sparsity"]),
        ("fmstats show run.fmstats --sort s", ["std", "sparsity", "saturated", "skewness"]),
        ("fmstats analyze net.py:net --sort traf", ["traffic_bytes", "traffic"]),
        ("fmstats analyze net.py:net --gpu H", ["H100", "H200"]),
        ("fmstats profile n", ["net.pt2", "net.py"]),
        ("fmstats profile net.py:net --backend re", ["reference"]),
        ("fmstats diagnose run.fmstats --rule saturated-", [
            "saturated-low", "saturated-high", "saturated-both"
        ]),
        ("fmstats calibrate run.fmstats --scheme u", ["uint8"]),
        ("fmstats calibrate run.fmstats --method ", ["absmax", "percentile", "mse", "entropy"]),
        ("fmstats show run.fmstats --js", ["--json"]),
        ("fmstats profile net.py:net --mask a", ["auto", "attention_mask"]),
        ("fmstats profile net.py:net --mask-mismatch ", ["skip", "count", "raise"]),
        ("fmstats show run.fmstats --group ", []),  # an empty file
        ("fmstats show grouped.fmstats --group ", ["cat", "cattle", "dog"]),
        ("fmstats show grouped.fmstats --group cat", ["cat", "cattle"]),
        ("fmstats show absent.fmstats --group ", []),
        ("fmstats diagnose grouped.fmstats --group d", ["dog"]),
        ("fmstats compare grouped.fmstats run.fmstats --group d", ["dog"]),
        ("fmstats compare grouped.fmstats run.fmstats --baseline-group d", ["dog"]),
    ],
)  # fmt: skip
def test_words(offer: Offer, line: str, offered: list[str]) -> None:
    assert sorted(offer(line)) == sorted(offered)


def test_all_rules_backends_and_columns(offer: Offer) -> None:
    assert offer("fmstats diagnose run.fmstats --rule ") == list(RULES)
    assert offer("fmstats profile net.py:net --backend ") == ["auto", *(b.name for b in BACKENDS)]
    columns = offer("fmstats show run.fmstats --sort ")
    assert {"layer", "type", "mean", "std", "sparsity", "dead", "nan+inf"} < set(columns)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_real_bash(folder: Path) -> None:
    program = folder / "bin" / "fmstats"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m fmstats \"$@\"\n")
    program.chmod(0o755)
    script = """
        set -e
        eval "$(_FMSTATS_COMPLETE=source_bash fmstats)"
        COMP_WORDS=(fmstats show r) COMP_CWORD=2
        $(complete -p fmstats | sed 's/.*-F \\([^ ]*\\).*/\\1/') fmstats
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    environment = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(fmstats.__file__).parents[1]),
    }
    command = ["bash", "--norc", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.stderr == ""
    assert sorted(done.stdout.splitlines()) == ["rest.fmstats", "run.fmstats"]


def test_completion_can_be_installed(command_line: Run) -> None:
    code, out, _ = command_line("--help")
    assert code == 0
    assert "--install-completion" in out
    assert "--show-completion" in out
