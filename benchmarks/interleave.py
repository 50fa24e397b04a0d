"""Time several ways of doing one thing alternately, so that noise affects them alike.

What every benchmark shares besides: its options, its lines of a table, its JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import torch

import fmstats

# What figures depend on besides this project's own sources.
PACKAGES = ("numpy", "transformers", "welford-torch", "torchlens")


def time_in_turn(
    ways: Mapping[str, Callable[[], object]], rounds: int, least: float = 2e-3
) -> dict[str, list[float]]:
    """Return seconds per call of each way and round; in a round each runs for `least` seconds."""
    repeats = {}
    for name, way in ways.items():
        way()
        started = time.perf_counter()
        way()
        repeats[name] = max(1, int(least / max(time.perf_counter() - started, 1e-9)))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            for _ in range(repeats[name]):
                way()
            seconds[name].append((time.perf_counter() - started) / repeats[name])
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], name: str, base: str) -> float:
    """Return the median over the rounds of the time of `name` over that of `base`."""
    return median(a / b for a, b in zip(seconds[name], seconds[base], strict=True))


def options_of(about: str) -> argparse.ArgumentParser:
    """Make a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer cases, rivals and rounds")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures with the machine"
    )
    return parser


def print_line(cells: Sequence[object], widths: Sequence[int]) -> None:
    """Print a line of a table: the first cell aligned left, floats with two digits, None as -."""
    texts = [
        "-" if cell is None else f"{cell:.2f}" if isinstance(cell, float) else str(cell)
        for cell in cells
    ]
    first, *others = (t.rjust(w) for t, w in zip(texts, widths, strict=True))
    print(" ".join([first.strip().ljust(widths[0]), *others]).rstrip(), flush=True)


def write_json(path: Path | None, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows and the machine they were measured on; do nothing without a path."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "rows": list(rows)}, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """Describe what figures depend on: processor, commit, versions, memory allocator."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "malloc": {k: v for k, v in os.environ.items() if k.startswith("MALLOC_")},
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fmstats": fmstats.__version__,
        **{name: _version(name) for name in PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """Return the commit of these sources, followed by a + where they have changed since."""
    here = Path(__file__).parent
    asked = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "-uno"])
    commit, changed = (
        subprocess.run(ask, cwd=here, capture_output=True, text=True, check=False).stdout.strip()
        for ask in asked
    )
    return commit + "+" * bool(changed)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
