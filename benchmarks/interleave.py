"""Time several ways of doing one thing in turn: a noisy machine is noisy for all of them."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

import fmstats


def time_in_turn(
    ways: Mapping[str, Callable[[], object]], rounds: int, least: float = 2e-3
) -> dict[str, list[float]]:
    """Seconds a call of each way, one figure a round; in a round each runs for `least` seconds."""
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
    """Median over the rounds of the time of `name` over that of `base` in the same round."""
    return median(a / b for a, b in zip(seconds[name], seconds[base], strict=True))


def arguments(about: str) -> argparse.Namespace:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures with the machine"
    )
    return parser.parse_args()


def write_json(path: Path | None, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows and what they were measured on; nothing without a path."""
    if path is None:
        return
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "fmstats": fmstats.__version__,
        "commit": commit,
    }
    path.write_text(json.dumps({"machine": machine, "rows": list(rows)}, indent=1) + "\n")
