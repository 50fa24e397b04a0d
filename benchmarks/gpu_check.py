"""Does everything work on this GPU, and how fast is it?

    python benchmarks/gpu_check.py [--quick] [--part NAME ...] [--json FILE]

Runs each part in a process of its own, one after the other: what crashes or hangs there ends
neither the others nor what they found. The file is written after each part; a run of some parts
leaves the others of the same GPU and commit in it. Ends with 1 if anything failed, and with 2 and a
line saying what is missing where the cuda backend cannot be used.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_checks.report import FAILED, OUTCOMES, Report, Setup, write_whole
from interleave import machine, options_of

from fmstats.backends import choose_backend
from fmstats.backends.cuda.backend import CudaBackend

NOTHING_TO_CHECK = 2


@dataclass(frozen=True)
class Part:
    """Describes a part of the check.

    Attributes:
        about: its heading.
        module: whose `run` it is.
        seconds: after which it is ended.
        function: in the module.
    """

    about: str
    module: str
    seconds: float
    function: str = "run"

    def start(self) -> Callable[[Setup, Report], object]:
        """Import and return what runs the part."""
        found: Callable[[Setup, Report], object] = getattr(
            importlib.import_module(self.module), self.function
        )
        return found


PARTS: Mapping[str, Part] = {
    "machine": Part("what is here", "gpu_checks.machine", 120),
    "kernels": Part("every kernel compiled and loaded", "gpu_checks.machine", 600, "load_kernels"),
    "parity": Part("the reference's numbers, the same bits", "gpu_checks.parity", 900),
    "masks": Part("masks and groups of positions", "gpu_checks.masks", 600),
    "streams": Part("streams and CUDA graphs", "gpu_checks.streams", 200),
    "nonfinite": Part("the pass in which a NaN came", "gpu_checks.nonfinite", 120),
    "budget": Part("a budget by the clocks of host and device", "gpu_checks.budget", 200),
    "large": Part("more than 2^31 elements", "gpu_checks.large", 300),
    "training": Part("gradients, memory and waits in training", "gpu_checks.training", 200),
    "compiled": Part("torch.compile, with CUDA graphs and without", "gpu_checks.compiled", 600),
    "sanitizer": Part("compute-sanitizer", "gpu_checks.sanitizer", 1300),
    "bandwidth": Part("bandwidth of a hook, and the host's time", "gpu_checks.bandwidth", 900),
    "triton": Part("the triton backend, beside the cuda backend", "gpu_checks.triton", 1500),
    "models": Part("what tracking adds to ResNet-50", "gpu_checks.models", 1500),
}


def run_part(name: str, setup: Setup, path: Path | None = None) -> Report:
    """Run a part in this process."""
    report = Report(name, path=path)
    started = time.perf_counter()
    part = PARTS[name]
    try:
        part.start()(setup, report)
    except Exception as error:  # outside of any check, such as a package that is missing
        report.note("the part itself", FAILED, f"{type(error).__name__}: {error}")
    report.figures["part_seconds"] = time.perf_counter() - started
    report.save()
    return report


def run_apart(name: str, quick: bool, folder: Path) -> Report:
    """Run a part in a process of its own; what it found, and how it ended if not well."""
    path = folder / f"{name}.json"
    command = [sys.executable, __file__, "--worker", name, "--out", str(path)]
    # A session of its own, so that what it started ends with it.
    process = subprocess.Popen([*command, *["--quick"] * quick], start_new_session=True)
    try:
        status: int | None = process.wait(PARTS[name].seconds)
    except subprocess.TimeoutExpired:
        status = None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    report = Report.read(name, path)
    if status is None:
        report.note("the part itself", FAILED, f"ended after {PARTS[name].seconds:.0f} s")
    elif status != 0:
        report.note("the part itself", FAILED, f"its process ended with status {status}")
    elif not report.checks:
        report.note("the part itself", FAILED, "nothing was checked")
    return report


def work(name: str, quick: bool, path: Path | None) -> int:
    """Run a part in a process of its own."""
    device = torch.device("cuda", 0)
    setup = Setup(choose_backend("cuda", device), device, quick)
    if name == "kernels-once":
        print(importlib.import_module("gpu_checks.sanitizer").check_kernels(setup))
        return 0
    run_part(name, setup, path)
    return 0


def here() -> dict[str, Any]:
    """Describe the machine and the commit; without git, leave out what it would say."""
    try:
        return machine()
    except OSError:
        return {"commit": "", "torch": torch.__version__}


def content_of(reports: Sequence[Report], gpu: str, quick: bool) -> dict[str, Any]:
    """Return what is written: first what predict.py reads, then the machine, then each part."""
    figures = {report.part: report.figures for report in reports}
    return {
        "gpu": gpu,
        "hooks": figures.get("bandwidth", {}).get("hooks", []),
        "models": figures.get("models", {}).get("models", []),
        "quick": quick,
        "machine": here(),
        "parts": {report.part: report.to_dict() for report in reports},
    }


def earlier(path: Path, gpu: str, commit: str) -> list[Report]:
    """Return the parts of a file, if they are of this GPU and commit."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    if found.get("gpu") != gpu or found.get("machine", {}).get("commit") != commit:
        return []
    return [Report(n, p["checks"], p["figures"]) for n, p in found.get("parts", {}).items()]


def summarize(reports: Sequence[Report]) -> str:
    """Return a line for each part, and every failure again."""
    lines = ["", "summary"]
    for report in reports:
        counts = ", ".join(f"{report.count(o)} {o}" for o in OUTCOMES if report.count(o))
        lines.append(f"  {report.part:<10} {counts}")
    for report in reports:
        for check in report.checks:
            if check["outcome"] == FAILED:
                lines.append(f"  FAILED {report.part}: {check['name']}: {check['detail']}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts, print what they find; the exit status."""
    parser = options_of(__doc__ or "")
    parser.add_argument("--part", nargs="+", choices=PARTS, help="these only")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    backend = CudaBackend()
    why_not = backend.why_not()
    if why_not is not None:
        print(f"gpu-check: the cuda backend cannot be used: {why_not}", file=sys.stderr)
        return NOTHING_TO_CHECK
    if options.worker:
        return work(options.worker, options.quick, options.out)
    gpu = importlib.import_module("gpu_checks.machine").short_name(torch.device("cuda", 0))
    names = options.part or list(PARTS)
    kept = earlier(options.json, gpu, here()["commit"]) if options.part and options.json else []
    done: dict[str, Report] = {r.part: r for r in kept if r.part not in names}
    ran = []
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(names, 1):
            print(f"\n[{number}/{len(names)}] {name}: {PARTS[name].about}", flush=True)
            done[name] = run_apart(name, options.quick, Path(folder))
            ran.append(done[name])
            if options.json:
                write_whole(options.json, content_of([*done.values()], gpu, options.quick))
    print(summarize(ran))
    return 1 if any(report.count(FAILED) for report in ran) else 0


if __name__ == "__main__":
    sys.exit(main())
