"""`fmstats calibrate` prints and writes the scales that Python gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from profile_files import some_profile
from torch import nn

import fmstats
from fmstats.calibration import QParams
from fmstats.profiles.profile import Profile

pytest.importorskip("typer", reason="needs typer")

Run = Callable[..., tuple[object, str, str]]


def measured() -> Profile:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    options = {"measure": "histogram", "histogram": "channel", "backend": "torch"}
    with torch.no_grad(), fmstats.track(model, **options) as tracker:
        model(torch.randn(200, 3))
    return tracker.stats()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    some_profile().save("run.fmstats")  # without histograms
    return tmp_path


@pytest.fixture
def saved(folder: Path) -> Profile:
    """What is in the file f.fmstats."""
    profile = measured()
    profile.save("f.fmstats")
    return profile


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_files_are_those_of_python(command_line: Run, saved: Profile, suffix: str) -> None:
    arguments = ("--scheme", "uint8", "--method", "percentile", "--q", "0.99", "--per", "channel")
    code, out, err = command_line("calibrate", "f.fmstats", *arguments, "--out", f"scales{suffix}")
    assert (code, err) == (0, "")
    want = saved.qparams("uint8", "percentile", q=0.99, per="channel")
    assert QParams.load(f"scales{suffix}").to_dict() == want.to_dict()
    assert out.splitlines()[-1] == f"Written to scales{suffix}"


def test_a_table_and_json_show_the_same(command_line: Run, saved: Profile) -> None:
    code, out, err = command_line("calibrate", "f.fmstats", "--layer", "[02]")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "f.fmstats: 2 layers, scheme int8, method mse, per tensor, of output"
    assert [line.split()[0] for line in lines[2:]] == ["layer", "0", "2"]
    code, out, err = command_line("calibrate", "f.fmstats", "--layer", "[02]", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == saved.qparams("int8", layers="[02]").to_dict()


def test_a_file_without_histograms_has_the_largest_magnitudes(
    command_line: Run, folder: Path
) -> None:
    code, out, err = command_line("calibrate", "run.fmstats", "--method", "absmax")
    assert (code, err) == (0, "")
    assert "b.conv" in out
    code, out, err = command_line("calibrate", "run.fmstats")
    assert (code, out) == (2, "")
    assert "--measure histogram" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--scheme", "int4"), "no such groups"),
        (("--method", "best"), "choose absmax"),
        (("--method", "absmax", "--q", "0.9"), "leave it out"),
        (("--method", "absmax", "--out", "scales.csv"), ".safetensors or .json"),
        (("--method", "absmax", "--layer", "none*"), "none*"),
        (("--method", "absmax", "--per", "row"), "row"),
    ],
)
def test_what_cannot_be_ends_with_2(
    command_line: Run, folder: Path, arguments: tuple[str, ...], told: str
) -> None:
    code, out, err = command_line("calibrate", "run.fmstats", *arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert not [*folder.glob("scales*")]
