"""`fmstats check`: exit codes, files, and what Prometheus's own tool says of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fmstats.checking.assets import NAMES, write_assets
from fmstats.integrations.metrics import LAYER_METRICS, RUN_METRICS

pytest.importorskip("typer", reason="needs typer")
pytest.importorskip("prometheus_client", reason="needs prometheus-client")

Run = Callable[..., tuple[object, str, str]]
NET = """
import torch
from torch import nn
def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
"""
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)"
)


@pytest.fixture
def run(command_line: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    Path("checked_net.py").write_text(NET)
    for number in range(4):
        x = np.random.default_rng(number).normal(size=(60, 3, 8, 8)).astype(np.float32)
        np.save(f"x{number}.npy", x)
    np.save("other.npy", 3 * x)
    return partial(command_line, "check", "checked_net.py:make", "--no-progress", "--data")


def promtool(*arguments: object, given: bytes = b"") -> None:
    done = subprocess.run(["promtool", *map(str, arguments)], input=given, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert b"error" not in done.stderr, done.stderr


def test_exit_codes(run: Run) -> None:
    for number in (1, 2, 3):
        assert run(f"x{number}.npy", "--out", f"march-{number}.fmstats")[0] == 0
    shards = [f"march-{number}.fmstats" for number in (1, 2, 3)]
    assert run("other.npy", "--baseline", *shards)[0] == 0
    code, out, err = run("other.npy", "--baseline", *shards, "--fail-on-drift", "--prom", "a.prom")
    assert (code, err) == (1, "")
    assert out.startswith("FAILED: there is drift\n")
    assert out.endswith("written: a.prom\n")
    assert run("x0.npy", "--fail-on", "samples<61")[0] == 1
    for wrong in (["--fail-on-drift"], ["--fail-on", "deaf>0"], ["--prom", "no/a.prom"]):
        code, out, err = run("x0.npy", *wrong)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
    code, out, err = run("x0.npy", "--baseline", "march-*.fmstats", "--include", "0")
    assert code == 2
    assert out.startswith("INCOMPLETE: ")
    assert "layers differ" in err


def test_json(run: Run) -> None:
    code, out, _ = run("x0.npy", "--json", "--fail-on", "nan>0", "--name", "nightly")
    assert (code, json.loads(out)["name"]) == (0, "nightly")


def test_assets_are_written_once(command_line: Run, tmp_path: Path) -> None:
    assert command_line("check", "--write-assets", tmp_path)[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)
    code, _, err = command_line("check", "--write-assets", tmp_path)
    assert code == 2
    assert "is there already" in err


def test_assets_read_what_is_written(tmp_path: Path) -> None:
    known = {metric.name for metric in RUN_METRICS}
    known |= {f"fmstats_layer_{metric.name}" for metric in LAYER_METRICS}
    for path in write_assets(tmp_path):
        asked = set(re.findall(r"fmstats_\w+", path.read_text()))
        assert asked
        assert asked <= known
    json.loads((tmp_path / "dashboard.json").read_text())


@needs_promtool
def test_promtool_takes_the_file_and_the_rules(run: Run, tmp_path: Path) -> None:
    arguments = ("--fail-on", "nan>0", "--prom", "a.prom", "--prom-layers", "*")
    assert run("x0.npy", *arguments)[0] == 0
    promtool("check", "metrics", given=Path("a.prom").read_bytes())
    rules, _ = write_assets(tmp_path)
    promtool("check", "rules", rules)


@needs_promtool
def test_an_old_check_and_a_failed_one_raise_alerts(tmp_path: Path) -> None:
    write_assets(tmp_path)
    test = tmp_path / "test.yml"
    test.write_text("""
rule_files: [alerts.yml]
evaluation_interval: 1h
tests:
  - interval: 1h
    input_series:
      - {series: 'fmstats_run_timestamp_seconds{model="Net"}', values: '0x40'}
      - {series: 'fmstats_check_passed{model="Net"}', values: '0x40'}
    alert_rule_test:
      - {eval_time: 20h, alertname: FeatureMapCheckIsOld, exp_alerts: []}
      - eval_time: 30h
        alertname: FeatureMapCheckIsOld
        exp_alerts:
          - exp_labels: {severity: warning, model: Net}
            exp_annotations:
              summary: "Net: the last check of feature maps is 1d 6h 0m 0s old"
""")
    promtool("test", "rules", test)
