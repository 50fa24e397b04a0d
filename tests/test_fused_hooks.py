"""A tracked model compiled for a GPU that is not there: what its graph holds, by its own hooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fused import guard

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(guard.why_not() is not None, reason=str(guard.why_not()))


def measure(net: str, *options: str) -> Any:
    path = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "fused.hooked", net, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("net", ["ResNet-18", "MobileNetV2", "Llama block"])
def test_operations_of_their_own_do_not_cut_the_graph(net: str) -> None:
    """One native operation a row and one for the pass, all of them in one CUDA graph."""
    made = measure(net, "--apart")
    assert made["observe"] == made["rows"] > 0
    assert (made["partitions"], made["begin_pass_in_graph"], made["fold"]) == (1, 1, 0)
    assert made["mutated_not_static"] == made["hand_over"] == made["mark_pass_boundary"] == 0
    assert made["reasons"] == ["is to stay apart"]


@pytest.mark.parametrize(("net", "kernels"), [("ResNet-18", 20), ("Llama block", 12)])
def test_rows_are_measured_within_kernels(net: str, kernels: int) -> None:
    """No operation is left of any row; one folds them all."""
    made = measure(net)
    assert made["observe"] == 0
    assert made["reasons"] == []
    assert (made["partitions"], made["begin_pass_in_graph"], made["fold"]) == (1, 1, 1)
    assert made["mutated_not_static"] == made["hand_over"] == made["mark_pass_boundary"] == 0
    assert made["kernels"] <= kernels
