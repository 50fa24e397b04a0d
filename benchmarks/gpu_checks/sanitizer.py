"""What does NVIDIA's compute-sanitizer say of the kernels?

Every kernel runs once or more under each of its tools, in a process without torch's caching of
memory, so that each tensor, state and workspace is an allocation of its own with its own ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from gpu_checks.parity import Case, check_case
from gpu_checks.report import SKIPPED, Report, Setup, Skipped

TOOLS = ("memcheck", "racecheck", "synccheck")
FOUND = 86  # the exit status for what a tool found
KEPT = 3000  # characters of what it said
DTYPES = (torch.float32, torch.bfloat16, torch.float8_e5m2)
# Rows, ragged, strided and columns, by warp and by block, in splits and in groups of them.
CASES = (
    ("contiguous", (2, 3, 4, 16)),
    ("contiguous", (5, 9, 7, 7)),
    ("contiguous", (8, 2, 128, 130)),
    ("contiguous", (96, 3, 21, 31)),
    ("every other", (3, 5, 9, 14)),
    ("every other", (40, 2, 60, 70)),
    ("channels last", (3, 8, 5, 6)),
    ("channels last", (3, 33, 11, 13)),
    ("channels last", (16, 24, 28, 28)),
)


def check_kernels(setup: Setup) -> str:
    """Run the kernels that the tools watch.

    Raises:
        AssertionError: a state is not the reference's.
    """
    for dtype in DTYPES:
        for layout, shape in CASES:
            for thresholds in ("none", "all"):
                check_case(
                    setup.backend,
                    setup.device,
                    Case(dtype, layout, "nan and inf", shape, thresholds),
                )
    setup.wait()
    return f"{len(DTYPES) * len(CASES) * 2} cases"


def command(tool: str, sanitizer: str, script: Path) -> list[str]:
    """Return the command line that runs `check_kernels` under a tool."""
    run = [sys.executable, str(script), "--worker", "kernels-once"]
    # Of calls that fail, torch's own questions to the driver are the most.
    asked = ["--report-api-errors", "no", "--error-exitcode", str(FOUND), "--print-limit", "20"]
    options = ["--tool", tool, *asked]
    return [sanitizer, *options, *run]


def check_tool(tool: str, script: Path, most_seconds: float) -> str:
    """Run under a tool.

    Raises:
        Skipped: there is no compute-sanitizer.
        AssertionError: the tool found something, or a state is not the reference's.
    """
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        raise Skipped("compute-sanitizer is not on PATH; the CUDA toolkit has it")
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    done = subprocess.run(
        command(tool, sanitizer, script),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=most_seconds,
    )
    said = done.stdout.strip()
    assert done.returncode == 0, f"status {done.returncode}:\n{said[-KEPT:]}"
    return next((line for line in said.splitlines()[::-1] if "SUMMARY" in line), "nothing found")


def run(
    setup: Setup,
    report: Report,
    tools: Sequence[str] = TOOLS,
    most_seconds: float = 400,
) -> None:
    """Run all tools, or none in a quick run."""
    script = Path(__file__).parent.with_name("gpu_check.py")
    for tool in tools:
        if setup.quick:
            report.note(tool, SKIPPED, "full runs only")
        else:
            report.check(tool, lambda tool=tool: check_tool(tool, script, most_seconds))
