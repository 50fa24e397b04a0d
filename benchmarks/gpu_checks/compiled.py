"""Are compiled models measured on a GPU as eager ones are, CUDA graphs of Inductor's included?"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from interleave import ratio, time_in_turn
from models import MODELS
from torch import Tensor, nn
from torch._dynamo.utils import counters

import fmstats
from gpu_checks.report import Report, Setup
from gpu_checks.streams import assert_same, conv_model, eagerly
from gpu_checks.streams import track as track_or_raise

MODES = ("default", "reduce-overhead")
PASSES, PAUSED = 6, 2
SHAPE = (16, 32, 64, 64)


def track(model: nn.Module, setup: Setup) -> fmstats.Tracker:
    """Track as users do: with on_error="raise" Python would measure all layers of a graph."""
    return track_or_raise(model, setup, on_error="warn")


def compile_model(model: nn.Module, mode: str) -> Callable[[Tensor], Tensor]:
    compiled: Callable[[Tensor], Tensor] = torch.compile(
        model, fullgraph=True, dynamic=False, mode=mode
    )
    return compiled


def check_passes(setup: Setup, mode: str) -> str:
    """Check passes, with a pause in between, of a model without gradients.

    Raises:
        AssertionError: the statistics are not those of as many eager passes, or it recompiled.
    """
    torch.compiler.reset()
    counters.clear()
    model, x = conv_model().to(setup.device), torch.randn(SHAPE, device=setup.device)
    want = eagerly(model, {x: PASSES}, setup)
    with torch.no_grad(), track(model, setup) as tracker:
        run = compile_model(model, mode)
        for _ in range(PASSES - 1):
            run(x)
        graphs = counters["stats"]["unique_graphs"]
        tracker.pause()
        for _ in range(PAUSED):
            run(x)
        tracker.resume()
        run(x)
        setup.wait()
        assert counters["stats"]["unique_graphs"] == graphs, "pause() made it compile again"
        assert_same(tracker.stats(), want, exact=False)
        whys = {row.reason for row in tracker.coverage() if row.reason}
    assert not any("by Python" in why for why in whys), whys
    skipped = counters["inductor"]["cudagraph_skips"]
    how = "; ".join(sorted(whys)) or "coverage() tells nothing against kernels"
    counted = f"{graphs} graphs, {skipped} without CUDA graphs"
    return f"{PASSES} passes count as eager ones; {counted}; {how}"


def check_training(setup: Setup, mode: str) -> str:
    """Check training steps in bfloat16.

    Raises:
        AssertionError: a layer was not counted once a step.
    """
    torch.compiler.reset()
    model, x = conv_model().to(setup.device).train(), torch.randn(SHAPE, device=setup.device)
    with track(model, setup) as tracker:
        run = compile_model(model, mode)
        for _ in range(PASSES):
            with torch.autocast(setup.device.type, dtype=torch.bfloat16):
                run(x).float().square().mean().backward()
            model.zero_grad(set_to_none=True)
        found = tracker.stats()
    for name, stats in found.items():
        positions = PASSES * x.numel() // x.shape[1]
        assert set(stats.state["count"].tolist()) == {positions}, (name, stats.state["count"])
    return f"{len(found)} layers, {PASSES} steps each"


def measure(setup: Setup, mode: str, rounds: int) -> dict[str, Any]:
    """Return the seconds of a forward pass of ResNet-18, compiled alone and with a tracker."""
    x = torch.randn(64, 3, 224, 224, device=setup.device)
    x = x.contiguous(memory_format=torch.channels_last)
    torch.manual_seed(0)
    bare = MODELS["ResNet-18"]()[0].eval().to(setup.device, memory_format=torch.channels_last)
    tracked = copy.deepcopy(bare)
    with torch.no_grad(), track(tracked, setup) as tracker:  # before compiling: it forgets graphs
        runs = {
            name: torch.compile(model, dynamic=False, mode=mode)
            for name, model in (("compiled", bare), ("fmstats", tracked))
        }

        def step(run: Callable[[Tensor], object]) -> None:
            with torch.autocast(setup.device.type, dtype=torch.bfloat16):
                run(x)
            setup.wait()

        seconds = time_in_turn({n: partial(step, run) for n, run in runs.items()}, rounds)
        assert tracker.stats(), "nothing was measured"
    return {
        "mode": mode,
        **{way: median(each) for way, each in seconds.items()},
        "ratio": ratio(seconds, "fmstats", "compiled"),
    }


def run(setup: Setup, report: Report) -> None:
    """Check both modes, and measure the cost in full runs only."""
    for mode in MODES:
        report.check(f"passes, mode {mode}", partial(check_passes, setup, mode))
        report.check(f"training, mode {mode}", partial(check_training, setup, mode))
    costs: list[dict[str, Any]] = []
    report.figures["compiled"] = costs

    def cost(mode: str) -> str:
        costs.append(measure(setup, mode, 15))
        return ", ".join(f"{k} {v}" for k, v in costs[-1].items())

    for mode in () if setup.quick else MODES:
        report.check(f"ResNet-18, batch 64, bfloat16, mode {mode}", partial(cost, mode))
