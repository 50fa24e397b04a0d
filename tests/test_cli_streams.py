"""Whatever becomes of stdout and stderr: no traceback, and never the code that has a meaning."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from profile_files import layer_of, profile_of, some_profile
from torch import zeros

from fmstats.cli import BUG, READER_GONE, REFUSED

pytest.importorskip("typer", reason="needs typer")

Run = Callable[..., tuple[object, str, str]]

SHOWING = [
    *(["--help"], ["--version"], ["show", "--help"], ["backends"]),
    *(["show", "a.fmstats"], ["show", "a.fmstats", "--json"], ["show", "a.fmstats", "--csv"]),
    *(["diagnose", "a.fmstats"], ["diagnose", "a.fmstats", "--json"]),
    ["diagnose", "a.fmstats", "--fail-on", "nan>0"],
    ["compare", "a.fmstats", "b.fmstats"],
    ["compare", "a.fmstats", "b.fmstats", "--fail-on-drift"],
    ["merge", "a.fmstats", "b.fmstats", "--out", "c.fmstats"],
    ["calibrate", "a.fmstats", "--method", "absmax"],
    ["report", "a.fmstats", "-o", "r.html"],
    ["analyze", "net.py:Net", "--input", "1,3,8,8"],
    ["visualize", "net.py:Net", "--image", "x.png", "--layer", "0", "-o", "m.png"],
    ["profile", "net.py:Net", "--data", "x.npy"],
]
NET = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self): super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU())
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.chdir(tmp_path)
    some_profile(samples=500).save("a.fmstats")
    some_profile(1, samples=500).save("b.fmstats")
    Path("net.py").write_text(NET)
    np.save("x.npy", np.zeros((2, 3, 8, 8), np.float32))
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    pillow.new("RGB", (9, 9)).save("x.png")


def start(
    arguments: list[str], stdout: int | IO[bytes], stderr: int | IO[bytes]
) -> tuple[int, str]:
    """Run the commands in a process of their own; its code, and what it says on stderr."""
    command = [sys.executable, "-m", "fmstats", *arguments]
    done = subprocess.run(command, stdout=stdout, stderr=stderr, timeout=120)
    return done.returncode, (done.stderr or b"").decode()


def closed_pipe() -> int:
    """The end to write to of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


def lose_stdout(monkeypatch: pytest.MonkeyPatch, run: Run, arguments: list[str], path: str) -> Any:
    """The same within this process, which takes a hundredth of the time."""
    descriptor = closed_pipe() if path == "pipe" else os.open(path, os.O_WRONLY)
    with os.fdopen(descriptor, "w") as file:  # what it still holds goes nowhere
        monkeypatch.setattr(sys, "stdout", file)
        code, _, err = run(*arguments)
        monkeypatch.undo()
    return code, err


@pytest.mark.parametrize("arguments", SHOWING, ids=" ".join)
def test_a_stdout_that_fails(
    command_line: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lose_stdout(monkeypatch, command_line, arguments, "pipe") == (READER_GONE, "")
    monkeypatch.chdir(tmp_path)
    said = "error: cannot write to stdout: No space left on device\n"
    assert lose_stdout(monkeypatch, command_line, arguments, "/dev/full") == (REFUSED, said)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_ends_the_process_quietly(
    monkeypatch: pytest.MonkeyPatch, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    one = layer_of(zeros(2, 1))
    layers = {f"layer{i}" * 20: one for i in range(5000)}  # more than a pipe holds
    profile_of(layers).save("long.fmstats")
    command = (
        f"{sys.executable} -m fmstats show long.fmstats --csv | head -n 1; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    first, code = done.stdout.splitlines()
    assert (first.split(",")[0], code) == ("layer", "141")


def test_processes_with_a_full_disk() -> None:
    with open("/dev/full", "wb") as full:
        said = "error: cannot write to stdout: No space left on device\n"
        assert start(["show", "a.fmstats"], full, subprocess.PIPE) == (REFUSED, said)
        assert start(["show", "none.fmstats"], subprocess.DEVNULL, full) == (REFUSED, "")
        assert start(["--wrong"], subprocess.DEVNULL, full) == (REFUSED, "")
        diagnose = ["diagnose", "a.fmstats", "--fail-on", "nan>0"]
        assert start(diagnose, subprocess.DEVNULL, full) == (1, "")
        assert start(diagnose, full, full) == (REFUSED, "")


def test_a_process_without_stdout_and_stderr() -> None:
    command = f"{sys.executable} -m fmstats merge a.fmstats --out c.fmstats >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], timeout=120).returncode == 0
    assert Path("c.fmstats").is_file()
    command = f"{sys.executable} -m fmstats show none.fmstats >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], timeout=120).returncode == REFUSED


def test_a_bug_has_a_code_of_its_own(command_line: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("fmstats.commands.groups.load", fail)
    code, out, err = command_line("show", "a.fmstats")
    assert (code, out) == (BUG, "")
    assert err.startswith("Traceback")
    assert err.endswith("ZeroDivisionError: a bug\n")


def test_an_odd_file_name_is_shown(command_line: Run) -> None:
    for name in (b"\xff.fmstats", b"\x1b[31m.fmstats"):
        path = os.fsdecode(name)
        code, out, err = command_line("merge", "a.fmstats", "--out", path)
        assert (code, err) == (0, "")
        assert os.path.exists(path)
        assert "Written to" in out
        assert "\x1b" not in out
    path = os.fsdecode(b"\xff.html")
    assert command_line("report", "a.fmstats", "-o", path)[0] == 0
    path = os.fsdecode(b"\xff.png")
    image = ["--image", "x.png", "--layer", "0"]
    assert command_line("visualize", "net.py:Net", *image, "-o", path)[0] == 0
