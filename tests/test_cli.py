"""The command line: what it prints and writes, and one line with exit code 2 for every mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fmstats
from fmstats.cli import main
from fmstats.profiles.profile import Profile

pytest.importorskip("typer", reason="needs typer")

NET = """
import torch
from torch import nn
class Net(nn.Sequential):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 2, 1)))
class Act(nn.Module):
    def forward(self, x): return torch.tanh(x)
class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 3, 1), Act()
    def forward(self, x):
        return self.act(self.conv(x)) + self.conv(x)
def broken(): raise RuntimeError("no such layer")
def batches():
    for _ in range(3):
        yield torch.ones(4, 3, 8, 8), torch.zeros(4)
def wrong_batches(): return [torch.ones(4, 3, 8, 8), torch.ones(4, 5, 8, 8)]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "some_cli_net.py").write_text(NET)
    np.save("x.npy", np.random.default_rng(0).normal(size=(10, 3, 8, 8)).astype(np.float32))
    np.savez("two.npz", a=np.zeros((2, 3)), b=np.zeros((2, 3)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.png").write_bytes(b"broken")
    yield tmp_path
    for name in [name for name in sys.modules if "some_cli_net" in name]:
        del sys.modules[name]


@pytest.fixture
def run(command_line):
    """Run a command line; return exit code, stdout, stderr."""
    return command_line


def test_version(run):
    assert run("--version") == (0, f"fmstats {fmstats.__version__}\n", "")


@pytest.mark.parametrize("command", [(), ("demo",), ("profile",), ("backends",)])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_teaches_by_example(run, command, option):
    code, out, err = run(*command, option)
    assert (code, err) == (0, "")
    assert f"Usage: fmstats {' '.join(command)}".rstrip() in out
    if command:
        assert f"Examples:\n    fmstats {command[0]}" in out
    else:
        assert all(f"\n  {name} " in out for name in ("demo", "profile", "backends"))
        newcomer = ("demo", "profile", "show", "diagnose", "compare", "report", "merge")
        places = [out.index(f"\n    fmstats {name}") for name in newcomer]
        assert places == sorted(places)


def test_backends(run):
    code, out, err = run("backends")
    assert (code, err) == (0, "")
    header, *rows = out.splitlines()
    assert header.split() == ["name", "usable", "devices", "detail"]
    listed = fmstats.backends.list_backends()
    assert [row.split()[:2] for row in rows] == [
        [info.name, "yes" if info.usable else "no"] for info in listed
    ]
    assert all(row.endswith(info.detail) for row, info in zip(rows, listed, strict=True))


def test_demo_passes_its_options(run, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "fmstats.commands.demo.run_demo",
        lambda show, **options: (calls.append(options), show("seen")),
    )
    keep = "\nTo go on, keep the profile: fmstats demo --out demo.fmstats\n"
    assert run("demo", "--crops", 0, "--backend", "torch") == (0, f"seen\n{keep}", "")
    assert calls == [{"crops": 0, "batch_size": 16, "backend": "torch"}]


def test_demo_writes_its_profile(run, tmp_path, monkeypatch):
    monkeypatch.setattr("fmstats.commands.demo.run_demo", lambda show, **_: Profile({}, {"n": 1}))
    path = tmp_path / "demo.fmstats"
    code, out, err = run("demo", "--out", path)
    assert (code, err) == (0, "")
    assert out.startswith(f"\nWritten to {path}. Try next:\n  fmstats report {path} -o ")
    assert fmstats.load(path).metadata == {"n": 1}
    code, _, err = run("demo", "--out", tmp_path / "demo.txt")
    assert code == 2
    assert "a result ends in .fmstats" in err


def test_profile_prints_and_writes(run, folder):
    code, out, err = run(
        "profile", "some_cli_net.py:Net", "--data", "x.npy", "--out", "p.json", "--batch-size", 4
    )
    assert (code, err) == (0, "")
    assert out.startswith("some_cli_net.py:Net on 10 samples of shape (3, 8, 8) in 'x.npy'\n")
    assert "samples: 10, batches: 3, seconds: " in out
    assert "Conv2d" in out
    assert "\nFindings\n" in out
    assert out.endswith("\nWritten to p.json\n")
    content = json.loads((folder / "p.json").read_text())
    assert list(content["layers"]) == ["0", "1", "2.0"]
    assert content["metadata"]["data"] == "10 samples of shape (3, 8, 8) in 'x.npy'"


def test_profile_writes_csv(run, folder):
    pytest.importorskip("pandas", reason="needs pandas")
    code, _, _ = run("profile", "some_cli_net:Net", "--data", "x.npy", "--out", "p.csv")
    assert code == 0
    lines = (folder / "p.csv").read_text().splitlines()
    assert lines[0].startswith("layer,type,channel,")
    assert len(lines) == 1 + 4 + 4 + 2


def test_profile_options_reach_the_run(run, folder):
    weights = {
        "0.weight": torch.zeros(4, 3, 3, 3),
        "0.bias": torch.full((4,), 2.0),
        "2.0.weight": torch.zeros(2, 4, 1, 1),
        "2.0.bias": torch.zeros(2),
    }
    torch.save(weights, "w.pth")
    code, _, err = run(
        *("profile", "some_cli_net.py:Net", "--data", "some_cli_net.py:batches"),
        *("--weights", "w.pth", "--include", "0", "--include", "1", "--include", "2.*"),
        *("--exclude", "2.0", "--limit", 7, "--every", 2, "--device", "cpu"),
        *("--dtype", "bfloat16", "--channels-last", "--backend", "reference", "--zero-tol", 3),
        *("--channel-dim", 1, "--batch-dim", 0, "--no-progress", "--out", "p.json"),
    )
    assert (code, err) == (0, "")
    content = json.loads((folder / "p.json").read_text())
    assert list(content["layers"]) == ["0", "1"]
    layer = content["layers"]["0"]
    assert (layer["dtype"], layer["backend"], layer["channel_dim"]) == ("bfloat16", "reference", 1)
    assert layer["count"] == [4 * 36] * 4  # The first of two passes, 4 samples of 36 positions.
    assert layer["mean"] == [2.0] * 4
    assert layer["sparsity"] == [1.0] * 4
    assert content["metadata"]["samples"] == 7
    assert content["metadata"]["options"]["batch_dim"] == 0


def test_profile_measures_inputs_and_calls_within_given_bounds(run, folder):
    code, _, err = run(
        *("profile", "some_cli_net.py:Residual", "--data", "x.npy", "--out", "p.json"),
        *("--of", "input", "--per-call", "--saturation", "conv=-1,1", "--on-error", "raise"),
        *("--channel-dim", "conv=1,act=3"),
    )
    assert (code, err) == (0, "")
    content = json.loads((folder / "p.json").read_text())
    assert list(content["layers"]) == ["conv#0", "act#0", "conv#1", "(model)/add#0"]
    assert (content["metadata"]["of"], content["metadata"]["per_call"]) == ("input", True)
    layers, x = content["layers"], np.load("x.npy")
    assert layers["conv#0"]["sat_high"] == (x >= 1).sum((0, 2, 3)).tolist()
    assert layers["act#0"]["channel_dim"] == 3


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ([], ["conv", "act", "(model)/add"]),
        (["--functional", "auto"], ["conv", "act", "(model)/add"]),
        (["--functional", "on"], ["conv", "act/tanh", "act", "(model)/add"]),
        (["--functional", "off"], ["conv", "act"]),
        (["--functional", "add"], ["conv", "act", "(model)/add"]),
        (["--functional", "relu, */tanh"], ["conv", "act/tanh", "act"]),
    ],
)
def test_profile_of_functional_operations(run, folder, asked, rows):
    code, _, err = run(
        *("profile", "some_cli_net.py:Residual", "--data", "x.npy", "--out", "p.json"), *asked
    )
    assert (code, err) == (0, "")
    assert list(json.loads((folder / "p.json").read_text())["layers"]) == rows


def test_profile_of_images(run, folder):
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    pillow.new("RGB", (50, 40)).save("photos/good.png")
    code, out, err = run(
        *("profile", "some_cli_net.py:Net", "--data", "photos", "--image-size", 16),
        *("--resize", 20, "--on-bad-sample", "skip", "--out", "p.json"),
    )
    assert (code, err) == (0, "")
    assert "  image 'photos/bad.png' cannot be read: UnidentifiedImageError" in out
    assert json.loads((folder / "p.json").read_text())["layers"]["0"]["shape"] == [1, 4, 14, 14]


NET_SPEC = "some_cli_net.py:Net"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["absent.py:Net", "--data", "x.npy"],
            "error: 'absent.py:Net': there is no file 'absent.py'",
        ),
        (["some_cli_net.py:Ne", "--data", "x.npy"], "has no attribute 'Ne'; closest: Net"),
        (
            ["some_cli_net.py:broken", "--data", "x.npy"],
            "RuntimeError: no such layer (some_cli_net.py",
        ),
        (["some_cli_net.py:batches", "--data", "x.npy"], "gave a generator, not an nn.Module"),
        (["resnet50", "--data", "x.npy"], "error: model 'resnet50' is not understood; forms: "),
        ([NET_SPEC, "--data", "absent"], "error: data 'absent' does not exist; forms: "),
        ([NET_SPEC, "--data", "empty"], "error: no image in folder 'empty': it is empty"),
        ([NET_SPEC, "--data", "photos"], "error: image 'photos/bad.png' cannot be read: "),
        ([NET_SPEC, "--data", "two.npz"], "error: 'two.npz' holds 2 arrays (a, b)"),
        (
            [NET_SPEC, "--data", "two.npz:a"],
            "error: the model refused batch 1, (2, 3) float64: Runt",
        ),
        ([NET_SPEC, "--data", "some_cli_net.py:wrong_batches"], "(1 batch was measured before)"),
        (
            [NET_SPEC, "--data", "x.npy", "--weights", "w.pth"],
            "error: there is no weights file 'w.pth'",
        ),
        (
            [NET_SPEC, "--data", "x.npy", "--include", "head"],
            "error: include='head' matches none of",
        ),
        (
            [NET_SPEC, "--data", "x.npy", "--backend", "abacus"],
            "error: no backend is called 'abacus'",
        ),
        ([NET_SPEC, "--data", "x.npy", "--device", "gpu"], "device: gpu, dtype: as it is"),
        (
            [NET_SPEC, "--data", "x.npy", "--channel-dim", "C"],
            "error: --channel-dim 'C' is neither",
        ),
        (
            [NET_SPEC, "--data", "x.npy", "--functional", "relu,"],
            "error: --functional 'relu,': choose auto, on, off, or names",
        ),
        (
            ["absent.py:Net", "--data", "x.npy", "--out", "p.xml"],  # Refused before any work.
            "error: cannot write 'p.xml': a result ends",
        ),
        ([NET_SPEC, "--data", "x.npy", "--out", "no/p.csv"], "there is no folder 'no'"),
        ([NET_SPEC, "--data", "x.npy", "--dtype", "int8"], "int8"),
        ([NET_SPEC, "--data", "x.npy", "--limit", "0"], "limit"),
        ([NET_SPEC], "--data"),
        ([NET_SPEC, "--data", "x.npy", "--wrong"], "--wrong"),
    ],
)
def test_mistakes_are_one_line_and_code_2(run, folder, arguments, message):
    code, out, err = run("profile", *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in out + err
    assert not list(folder.glob("p.*"))


def test_missing_typer(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("fmstats.commands")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "typer", None)
    assert main(["backends"]) == 2
    assert capsys.readouterr().err == (
        "error: the command line needs typer: pip install 'fmstats[cli]' "
        "(import of typer halted; None in sys.modules)\n"
    )


def test_process_reports_without_a_traceback(folder):
    command = [
        sys.executable,
        "-m",
        "fmstats",
        "profile",
        NET_SPEC,
        "--data",
        "some_cli_net.py:wrong",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(fmstats.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "error: 'some_cli_net.py:wrong': some_cli_net.py has no attribute"
    )


def test_import_needs_neither_typer_nor_rich():
    code = "import sys, fmstats; print([n for n in ('typer', 'rich', 'PIL') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
