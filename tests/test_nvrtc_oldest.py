"""The kernels under the oldest NVRTC that is supported, which `make test` puts into build.

12.4 is what torch 2.6 ships. It takes less C++ than later ones: lambdas within templates, for one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "oldest-nvrtc"

COMPILE = """
import torch
from fmstats.backends import DTYPES
from fmstats.backends.cuda import nvrtc
assert nvrtc.version() == (12, 4), nvrtc.version()
for kernel in nvrtc.KERNELS:
    for dtype in (torch.bfloat16, torch.float8_e5m2):
        assert nvrtc.compile_kernel(kernel, DTYPES.index(dtype), nvrtc.ALL, "sm_90")
    print(kernel)
"""


@pytest.mark.skipif(not FOLDER.exists(), reason="no older NVRTC: `make test` installs one")
def test_every_kernel_compiles(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(FOLDER), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.split()) == 8
