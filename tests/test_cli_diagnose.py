"""`fmstats diagnose`: exit codes, what is printed, JSON, and one line for every mistake."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from diagnosis_profiles import healthy, layer_of, profile_of

import fmstats
from fmstats.diagnosis import RULES
from fmstats.diagnosis.measures import COUNTED

pytest.importorskip("typer", reason="needs typer")
storage = pytest.importorskip("fmstats.storage")
Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three profiles: one with a dead channel in eight and a NaN, a clean one, a young one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    dead, bad = healthy(), healthy()
    dead[:, 0], bad[0, 0] = 0, math.nan
    storage.save(profile_of(layer_of(dead), layer_of(bad), samples=1000), "bad.fmstats")
    storage.save(profile_of(layer_of(healthy()), layer_of(healthy())), "good.fmstats")
    storage.save(profile_of(layer_of(healthy(20))), "young.fmstats")
    Path("broken.fmstats").write_bytes(b"broken")
    return tmp_path


@pytest.fixture
def run(command_line: Run, folder: Path) -> Run:
    """Run a command line; return exit code, stdout, stderr."""
    return partial(command_line, "diagnose")


def test_findings_alone_are_no_failure(run: Run) -> None:
    code, out, err = run("bad.fmstats")
    assert (code, err) == (0, "")
    assert out == f"{storage.load('bad.fmstats').diagnose()}\n"
    assert "never-active, 1 layer" in out
    assert run("good.fmstats") == (0, "nothing found\n", "")


@pytest.mark.parametrize(
    ("file", "conditions", "code"),
    [
        ("bad.fmstats", "dead>0.05,nan>0", 1),
        ("bad.fmstats", "dead>12%", 1),
        ("bad.fmstats", "dead>13%", 0),
        ("bad.fmstats", "samples<1000", 0),
        ("bad.fmstats", "samples<1001", 1),
        ("bad.fmstats", "errors>0", 1),
        ("good.fmstats", "dead>0.05,nan>0,errors>0,warnings>0,findings>0", 0),
        ("good.fmstats", "samples<1000", 1),  # the profile does not tell
        ("good.fmstats", "saturated-high>0", 1),  # nothing has bounds
        ("young.fmstats", "dead>0.05", 1),
        ("young.fmstats", "nan>0", 0),
    ],
)
def test_exit_codes(run: Run, file: str, conditions: str, code: int) -> None:
    assert run(file, "--fail-on", conditions)[::2] == (code, "")
    exit_code, out, _ = run(file, "--fail-on", conditions, "--json")
    assert exit_code == code
    assert json.loads(out)["failed"] == bool(code)


def test_conditions_are_told(run: Run) -> None:
    _, out, _ = run("bad.fmstats", "--fail-on", "dead>20%", "--fail-on", "nan>0")
    assert out.endswith(
        "\n\nConditions to fail on\n"
        "  dead>0.2  does not hold: 0.125 (share of channels)\n"
        "  nan>0  holds: 1 (NaN elements)\n"
    )
    _, out, _ = run("young.fmstats", "--fail-on", "dead>5%")
    assert out.endswith(
        "  dead>0.05  not enough data: 0 to 1, 4 of 4 channels have too little data (share of "
        "channels)\n"
    )


def test_rules_and_thresholds(run: Run) -> None:
    code, out, err = run("young.fmstats", "--rule", "dead", "--set", "elements=20")
    assert (code, out, err) == (0, "nothing found\n", "")
    _, out, _ = run("bad.fmstats", "--rule", "dead", "--rule", "non-finite", "--json")
    assert json.loads(out)["rules"] == ["non-finite", "dead"]


def test_formats(run: Run) -> None:
    x = healthy()
    x[:, 1] *= 2.0**-30
    storage.save(profile_of(layer_of(x)), "apart.fmstats")
    rules = ["range-e4m3", "range-e5m2"]

    def found(*arguments: str) -> list[str]:
        code, out, err = run("apart.fmstats", "--json", *arguments)
        assert (code in (0, 1), err) == (True, "")
        return [f["rule"] for f in json.loads(out)["findings"] if f["rule"] in rules]

    assert found() == []
    assert found("--formats", "e5m2,e4m3") == rules
    assert found("--formats", "e4m3", "--formats", "e5m2") == rules
    assert found("--rule", "dead", "--formats", "e5m2") == rules[1:]
    assert found("--fail-on", "range-e4m3>0") == rules[:1]
    assert found("--rule", "dead", "--formats", "e4m3", "--fail-on", "range-e4m3>0") == rules[:1]
    assert run("apart.fmstats", "--fail-on", "range-e4m3>0")[0] == 1


def test_json(run: Run) -> None:
    code, out, err = run("bad.fmstats", "--json", "--fail-on", "nan>0", "--set", "dead=0.999")
    assert (code, err) == (1, "")
    content = json.loads(out)
    assert content["schema"] == 1
    assert content["thresholds"]["dead"] == 0.999
    assert [f["rule"] for f in content["findings"]][:2] == ["non-finite", "never-active"]
    outcome = {"condition": "nan>0", "layer": None, "verdict": "holds"}
    assert content["fail_on"] == [{**outcome, "at_least": 1, "at_most": 1, "reason": None}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.fmstats"], "absent.fmstats"),
        (["broken.fmstats"], "broken.fmstats"),
        (["bad.fmstats", "--rule", "deed"], "there is no rule 'deed'; closest: dead; choose from"),
        (["bad.fmstats", "--formats", "e4m4"], "there is no format 'e4m4'; closest: e4m3; choose"),
        (["bad.fmstats", "--set", "deed=1"], "there is no threshold 'deed'; closest: dead"),
        (["bad.fmstats", "--set", "dead"], "--set 'dead': there is no '=' in it; write NAME=X"),
        (["bad.fmstats", "--set", "dead=x"], "--set 'dead=x': 'x' is not a number"),
        (["bad.fmstats", "--set", "dead=2"], "threshold dead=2.0: give a finite number, at least"),
        (["absent.fmstats", "--fail-on", "deed>1"], "there is no measure 'deed'; closest: dead"),
        (["bad.fmstats", "--fail-on", "dead"], "condition 'dead' is not understood: write MEASURE"),
        (
            ["bad.fmstats", "--rule", "dead", "--fail-on", "sparse>0"],
            "'sparse>0' needs the rule 'sparse', which is not among those chosen: dead",
        ),
    ],
)
def test_mistakes_are_one_line_and_code_2(run: Run, arguments: list[str], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_help_names_every_measure(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    words = " ".join(out.split()).replace("- ", "-")
    assert "Examples: fmstats diagnose run.fmstats" in words
    assert all(name in words for name in (*COUNTED, *RULES))


def test_exit_code_of_a_process(folder: Path) -> None:
    command = [sys.executable, "-m", "fmstats", "diagnose", "bad.fmstats", "--fail-on", "nan>0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(fmstats.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 1
    assert "nan>0  holds: 1 (NaN elements)" in done.stdout
    assert done.stderr == ""
