"""What has become slower or faster since a commit?

    python benchmarks/compare.py BASE [--quick] [--json FILE]      (make bench-compare BASE=...)

Builds BASE apart, then starts one process for each build and lets them take turns at the same
cases, so that whatever else the machine does slows both. Cases use the public API alone, so BASE
may be any commit that has `track`: an nn.Identity is tracked and called, which is one hook and one
tensor. Exits with 1 if the median ratio of a case is above 1.05.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from interleave import options_of, print_line, write_json

ROOT = Path(__file__).parent.parent
BUILDS = ROOT / "build" / "compare"
LIMIT = 1.05
LEAST = 5e-3  # seconds that a turn lasts
PAUSE = 5e-3  # lets the other process's threads stop waiting for work
WIDTHS = (47, 9, 9, 9, 7)
LAYOUTS = ("contiguous_format", "channels_last")
TOKENS = "channels in the last dim"
QUICK = (
    "hook",
    "(8, 256, 56, 56) contiguous_format float32",
    "(8, 2048, 7, 7) channels_last float32",
)
CASES = {
    "hook": ((4, 8), "contiguous_format", "float32"),
    **{
        f"{shape} {layout} {dtype}": (shape, layout, dtype)
        for shape in ((8, 64, 112, 112), (8, 256, 56, 56), (8, 2048, 7, 7))
        for layout in LAYOUTS
        for dtype in ("float32", "bfloat16", "float16")
    },
    **{
        f"{shape} {TOKENS} {dtype}": (shape, TOKENS, dtype)
        for shape in ((1, 1, 4096), (32, 256), (4, 197, 384), (8, 128, 768), (8, 128, 3072))
        for dtype in ("float32", "bfloat16")
    },
}


def judge(ratio: float) -> str:
    """Judge the time of the new build over that of the base."""
    return "SLOWER" if ratio > LIMIT else "faster" if ratio < 1 / LIMIT else ""


def compare(base: Sequence[float], new: Sequence[float]) -> float:
    """Return the median over the rounds of the new time over the base's in the same round."""
    return median(n / b for b, n in zip(base, new, strict=True))


def build(commit: str) -> Path:
    """Return the folder with the package of a commit; it is built at most once."""
    target = BUILDS / commit
    if (target / "fmstats").is_dir():
        return target
    tree = BUILDS / f"{commit}-tree"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "prune"], check=True)
    subprocess.run([*git, "add", "--quiet", "--force", "--detach", str(tree), commit], check=True)
    try:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--target", str(target), str(tree)], check=True)
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    return target


class Worker:
    """Controls a process with one build of the package, which answers on a pipe."""

    def __init__(self, package: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--answer"],
            env=os.environ | {"PYTHONPATH": str(package)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        loaded = self._read()
        if not Path(loaded).is_relative_to(package):
            raise SystemExit(f"asked for fmstats of {package}, got {loaded}")

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def time(self, case: str, repeats: int) -> float:
        """Return the seconds per call, after one call that is not timed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([case, repeats]) + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def answer() -> None:
    """Work as a worker: read [case, repeats], write seconds per call, until the pipe closes."""
    import torch

    import fmstats

    print(json.dumps(fmstats.__file__), flush=True)
    tracked: dict[str, Any] = {}
    for line in sys.stdin:
        case, repeats = json.loads(line)
        if case not in tracked:
            tracked.clear()  # one case's tensor at a time
            shape, layout, dtype = CASES[case]
            x = torch.randn(*shape).to(getattr(torch, dtype))
            if layout != TOKENS:
                x = x.contiguous(memory_format=getattr(torch, layout))
            module = torch.nn.Identity()
            tracker = fmstats.track(module, channel_dim=-1 if layout == TOKENS else 1)
            tracked[case] = module, x, tracker
        module, x, _ = tracked[case]
        with torch.inference_mode():
            module(x)
            started = time.perf_counter()
            for _ in range(repeats):
                module(x)
            print(json.dumps((time.perf_counter() - started) / repeats), flush=True)


def time_both(base: Worker, new: Worker, case: str, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of both builds, a pair per round; the order alternates."""
    for worker in (base, new):
        worker.time(case, 1)
    repeats = max(1, int(LEAST / base.time(case, 3)))
    seconds: tuple[list[float], list[float]] = [], []
    for index in range(rounds):
        order = (0, 1) if index % 2 == 0 else (1, 0)
        for who in order:
            time.sleep(PAUSE)
            seconds[who].append((base, new)[who].time(case, repeats))
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row per case; 1 if any became slower."""
    parser = options_of(__doc__ or "")
    parser.add_argument("base", metavar="BASE", help="a commit, a branch or a tag")
    options = parser.parse_args(argv)
    found = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{options.base}^{{commit}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        parser.error(f"{options.base!r} is no commit of this repository")
    commit = found.stdout.strip()
    rows = []
    workers = [Worker(build(commit)), Worker(ROOT)]
    try:
        print(f"base {commit[:9]}, new: the working tree as built")
        print_line(("case", "base us", "new us", "new/base", ""), WIDTHS)
        for case in QUICK if options.quick else CASES:
            rounds = 11 if options.quick else 31
            base, new = time_both(*workers, case, rounds)
            if judge(compare(base, new)):  # before it is said, it is asked again, and longer
                again = time_both(*workers, case, 2 * rounds)
                base, new = base + again[0], new + again[1]
            row = {"case": case, "base_us": 1e6 * median(base), "new_us": 1e6 * median(new)}
            row |= {"ratio": compare(base, new), "verdict": judge(compare(base, new))}
            rows.append(row)
            times = (f"{row['base_us']:.1f}", f"{row['new_us']:.1f}")
            print_line((case, *times, row["ratio"], row["verdict"]), WIDTHS)
    finally:
        for worker in workers:
            worker.close()
    write_json(options.json, [{"base": commit}, *rows])
    return int(any(row["verdict"] == "SLOWER" for row in rows))


if __name__ == "__main__":
    sys.exit(answer() if sys.argv[1:] == ["--answer"] else main())
