"""Do states know in which pass the first NaN came, and does the user hear of it without a wait?"""

from __future__ import annotations

import math

import torch
from torch import nn

import fmstats
from gpu_checks.report import Report, Setup, Skipped
from gpu_checks.streams import capture, track, warm_up

SHAPE, CHANNEL, LATEST = (8, 16, 32, 32), 3, 2


def spoiled(x: torch.Tensor) -> torch.Tensor:
    """Return a copy with a NaN in one channel."""
    x = x.clone()
    x[0, CHANNEL, 1, 1] = math.nan
    return x


def born(passes: int) -> list[int]:
    """Return the first passes of all channels, of which one has a NaN since then."""
    return [passes if channel == CHANNEL else -1 for channel in range(SHAPE[1])]


def check_passes(setup: Setup) -> str:
    """Check eager passes, of which the fourth has a NaN, with a step of the user's.

    Raises:
        AssertionError: another pass or step was noted.
    """
    model, x = nn.Sequential(nn.Identity(), nn.ReLU()), torch.randn(SHAPE, device=setup.device)
    with torch.no_grad(), track(model, setup) as tracker:
        for number in range(1, 8):
            tracker.step = 10 * number
            model(spoiled(x) if number in (4, 6) else x)
    profile = tracker.stats()
    for name in ("0", "1"):
        assert profile[name].first_pass.tolist() == born(4), profile[name].first_pass
        assert profile[name].first_step.tolist() == born(40), profile[name].first_step
    return "pass 4 and step 40, of each layer"


def check_replays(setup: Setup) -> str:
    """Check a captured pass: replays advance the clock of the device.

    Raises:
        AssertionError: another pass was noted.
    """
    if not setup.on_gpu:
        raise Skipped("graphs need a GPU")
    model, x = nn.Sequential(nn.Identity(), nn.ReLU()), torch.randn(SHAPE, device=setup.device)
    with torch.no_grad(), track(model, setup) as tracker:
        stream = warm_up(lambda: model(x), setup)
        before = int(tracker.pass_hook.counts[2])
        graph = capture(lambda: model(x), stream)
        for number in range(1, 6):
            if number == 3:
                x.copy_(spoiled(x))
            graph.replay()
        setup.wait()
    profile = tracker.stats()
    assert profile["1"].first_pass.tolist() == born(before + 3), profile["1"].first_pass
    return f"replay 3 after {before} passes is pass {before + 3}"


def check_event(setup: Setup) -> str:
    """Check that an event comes at most two passes after the device has run its pass.

    Raises:
        AssertionError: it came later, or not, or the host waited.
    """
    model, x = nn.Sequential(nn.Identity(), nn.ReLU()), torch.randn(SHAPE, device=setup.device)
    events: list[tuple[int, fmstats.NonFiniteEvent]] = []
    number, bad = 0, spoiled(x)
    with (
        torch.no_grad(),
        fmstats.track(
            model,
            backend=setup.backend.name,
            on_nonfinite=lambda event: events.append((number, event)),
        ) as tracker,
    ):
        for _ in range(4):  # the first ones compile, allocate and copy
            model(x)
        if setup.on_gpu:
            torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                model(x)
        finally:
            if setup.on_gpu:
                torch.cuda.set_sync_debug_mode("default")
        for number in range(8, 13):
            model(bad if number == 8 else x)
            setup.wait()  # the device keeps up: what is late then is so by passes alone
    assert tracker.stats()["0"].first_pass.tolist() == born(8)
    assert len(events) == 1, events
    told, event = events[0]
    assert (event.layer, event.forward_pass, event.channels) == ("0", 8, (CHANNEL,)), event
    assert 8 <= told <= 8 + LATEST, told
    return f"of pass 8 told in pass {told}; passes without one did not wait"


def run(setup: Setup, report: Report) -> None:
    """Run all checks of this module."""
    report.check("the pass and step of the first NaN", lambda: check_passes(setup))
    report.check("the same in replays of a graph", lambda: check_replays(setup))
    report.check("on_nonfinite", lambda: check_event(setup))
