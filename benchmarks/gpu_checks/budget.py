"""Does a budget keep to its share of the time, where the device is slower and where the host is?"""

from __future__ import annotations

import copy
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

import fmstats
from gpu_checks.report import Report, Setup, Skipped
from gpu_checks.streams import capture

SHARE, MORE = 0.05, 0.1  # of the time, and of that share
NEVER = 1 << 40
PASSES, ROUNDS, WARM_UP = 200, 9, 100
LARGE, SMALL = (64, 64, 56, 56), (1, 64, 8, 8)

clock = time.perf_counter


def build() -> nn.Module:
    """Build a model whose layers are all cheap beside what measuring them costs."""
    return nn.Sequential(*(layer for _ in range(4) for layer in (nn.Conv2d(64, 64, 1), nn.ReLU())))


def track(model: nn.Module, setup: Setup, **options: Any) -> fmstats.Tracker:
    return fmstats.track(model, backend=setup.backend.name, on_error="raise", **options)


def seconds_of(run: Callable[[], object], passes: int, setup: Setup) -> float:
    """Return the seconds that a pass takes, until the device has done all of them."""
    setup.wait()
    began = clock()
    for _ in range(passes):
        run()
    setup.wait()
    return (clock() - began) / passes


def judge(idle: Sequence[float], budgeted: Sequence[float], told: float | None) -> str:
    """Compare rounds of passes with hooks that measure nothing and under a budget.

    Args:
        idle: seconds of a pass in each round of the former.
        budgeted: the same of the latter.
        told: what measuring has taken by the metadata.

    Raises:
        AssertionError: measuring takes more than its share, beyond what rounds without it differ
            by, or the metadata tell so, or nothing.
    """
    usual = statistics.median(idle)
    added = statistics.median(budgeted) / usual - 1
    lower, _, upper = statistics.quantiles(idle, n=4)
    noise = (upper - lower) / usual
    assert told is not None, "the metadata do not tell what was spent"
    text = f"{added:.2%} added, {noise:.2%} between rounds; {told:.2%} by the metadata"
    assert told <= SHARE * (1 + MORE), text
    assert added <= SHARE * (1 + MORE) + noise, text
    return text


def check_share(
    setup: Setup, report: Report, name: str, shape: tuple[int, ...], times: int = 1
) -> str:
    """Check what passes take without hooks, with idle ones, under a budget, and all measured.

    Args:
        setup: where.
        report: takes the figures.
        name: theirs.
        shape: of the tensors.
        times: as many passes, where they are so short that one interruption would count.

    Raises:
        AssertionError: measuring takes more than its share.
    """
    bare = build().to(setup.device).eval()
    x = torch.randn(shape, device=setup.device)
    idle, budgeted, measured = (copy.deepcopy(bare) for _ in range(3))
    passes, rounds = (PASSES // 4, ROUNDS // 2) if setup.quick else (PASSES, ROUNDS)
    passes *= times
    seconds: dict[str, list[float]] = {}
    with (
        torch.no_grad(),
        track(idle, setup, every=NEVER),
        track(budgeted, setup, budget=SHARE) as tracker,
        track(measured, setup),
    ):
        models = {"bare": bare, "idle": idle, "budget": budgeted, "all measured": measured}
        for model in models.values():
            seconds_of(lambda m=model: m(x), WARM_UP, setup)
        for _ in range(rounds):
            for way, model in models.items():
                taken = seconds_of(lambda m=model: m(x), passes, setup)
                seconds.setdefault(way, []).append(taken)
        metadata = tracker.stats().metadata
    keys = ("budget_spent", "budget_spent_device", "every", "passes", "passes_measured")
    report.figures[name] = {
        "seconds": {way: statistics.median(found) for way, found in seconds.items()},
        "rounds": seconds,
        "told": {key: metadata.get(key) for key in keys},
    }
    told = [metadata["budget_spent"]]
    if setup.on_gpu:
        told.append(metadata.get("budget_spent_device"))
    worst = None if None in told else max(told)
    every = f", one pass in {metadata['every']:.1f}"
    return judge(seconds["idle"], seconds["budget"], worst) + every


def check_no_wait(setup: Setup) -> str:
    """Check that passes under a budget do not wait for the device.

    Raises:
        Skipped: the device is not a GPU.
        RuntimeError: torch's, of what waited.
    """
    if not setup.on_gpu:
        raise Skipped("torch watches for waits on GPUs alone")
    model = build().to(setup.device).eval()
    x = torch.randn(LARGE, device=setup.device)
    with torch.no_grad(), track(model, setup, budget=SHARE) as tracker:
        model(x)  # compiles and allocates
        setup.wait()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(WARM_UP):
                model(x)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        setup.wait()
    return f"{WARM_UP} passes, {tracker.stats().metadata['passes_measured']} measured"


def check_capture(setup: Setup) -> str:
    """Check that a pass which is captured has no events, and that those of others still come.

    Raises:
        Skipped: the device is not a GPU.
        AssertionError: what a pass costs is not known before, or another afterwards.
    """
    if not setup.on_gpu:
        raise Skipped("graphs need a GPU")
    model = build().to(setup.device).eval()
    x = torch.randn(LARGE, device=setup.device)
    stream = torch.cuda.Stream(setup.device)
    setup.wait()  # for the model and its input
    with torch.no_grad(), track(model, setup, budget=SHARE) as tracker:
        every = tracker.pass_hook.sampling.every_now
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                model(x)
        setup.wait()
        known = every()
        graph = capture(lambda: model(x), stream)
        assert known == every(), (known, every())
        for _ in range(WARM_UP):
            graph.replay()
        setup.wait()
        told = tracker.stats().metadata
        assert told.get("budget_spent_device") is not None, told
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                model(x)
        setup.wait()
    return f"one pass in {known} before the capture, in {every()} after replays"


def run(setup: Setup, report: Report) -> None:
    """Run all checks of this module."""
    for name, shape, times in (("large tensors", LARGE, 1), ("small tensors", SMALL, 10)):
        check = functools.partial(check_share, setup, report, name, shape, times)
        report.check(f"the share, {name}", check)
    report.check("no wait", lambda: check_no_wait(setup))
    report.check("a capture", lambda: check_capture(setup))
