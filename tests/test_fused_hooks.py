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


@pytest.mark.parametrize(
    ("net", "rows", "kernels"), [("ResNet-18", 73, 2), ("MobileNetV2", 151, 2), ("Llama block", 0, 0)]
)
def test_placeholder(net: str, rows: int, kernels: int) -> None: ...
