"""Steps that are skipped, that fail or that train more than before; and what others do not cost."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats import FmstatsError

PACKAGE = Path(fmstats.__file__).parent


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(8, 4)).sum().backward()
    optimizer.step()


def test_a_step_that_fails_counts_in_no_row() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with fmstats.track_parameters(model, optimizer) as tracker:

        def fail() -> float:
            raise RuntimeError("no loss")

        with pytest.raises(RuntimeError, match="no loss"):
            optimizer.step(fail)
        step(model, optimizer)
    assert {row.calls for row in tracker.stats().info.values()} == {1}
    assert (tracker.steps, tracker.steps_measured) == (2, 1)


def scaled_steps(loss_weights: list[Tensor], fused: bool) -> fmstats.ParameterTracker:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with fmstats.track_parameters(model, optimizer) as tracker:
        for weights in loss_weights:
            optimizer.zero_grad()
            scaler.scale((model(torch.ones(8, 4)) * weights).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
    return tracker


def test_a_step_that_a_scaler_skips() -> None:
    sound, overflow = torch.tensor([1.0, 1.0]), torch.tensor([1.0, torch.inf])
    fused = scaled_steps([sound, overflow], fused=True)
    gradient = fused.stats()["weight/gradient"]
    np.testing.assert_array_equal(gradient.mean, [8.0, 8.0])
    np.testing.assert_array_equal(gradient.pos_inf, [0, 4])
    np.testing.assert_array_equal(fused.stats()["weight/update"].zeros, [4, 4])
    assert fused.steps == 2
    plain = scaled_steps([sound, overflow], fused=False)
    assert plain.steps == 1  # the optimizer was not asked to step
    np.testing.assert_array_equal(plain.stats()["weight/gradient"].mean, [8.0, 8.0])


def test_a_parameter_that_is_thawed_is_frozen_no_longer() -> None:
    model = net()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    with fmstats.track_parameters(model, optimizer) as tracker:
        step(model, optimizer)
        assert tracker.stats().info["0.weight"].type == "frozen parameter"
        assert "0.weight/gradient" not in {row.name for row in tracker.coverage()}
        model[0].requires_grad_(True)
        step(model, optimizer)
        assert tracker.stats().info["0.weight/update"].type == "frozen update"
        optimizer.add_param_group({"params": model[0].parameters()})
        step(model, optimizer)
    rows = tracker.stats().info
    assert {rows[name].type for name in ("0.weight", "0.bias")} == {"parameter"}
    assert {rows[name].type for name in ("0.weight/update", "0.bias/update")} == {"update"}
    assert (rows["0.weight"].calls, rows["0.weight/gradient"].calls) == (3, 1)
    assert list(rows)[:3] == ["0.weight", "0.weight/gradient", "0.weight/update"]


def test_measuring_by_hand_thaws_nothing_that_the_optimizer_lacks() -> None:
    model = net()
    model[2].requires_grad_(False)
    tracker = fmstats.track_parameters(model, torch.optim.SGD(model[0].parameters(), lr=0.1))
    alone = fmstats.track_parameters(model)
    model[2].requires_grad_(True)
    for each in (tracker, alone):
        each.measure()
    assert tracker.stats().info["2.weight"].type == "frozen parameter"
    assert alone.stats().info["2.weight"].type == "parameter"


def test_the_step_of_the_first_nan() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with fmstats.track_parameters(model, optimizer, every=2) as tracker:
        for number in range(6):
            optimizer.zero_grad()
            (model(torch.ones(8, 4)).sum() * (torch.nan if number >= 2 else 1.0)).backward()
            optimizer.step()
    profile = tracker.stats()
    assert profile["2.bias/gradient"].first_step.tolist() == [2, 2]
    assert profile["2.bias/update"].first_step.tolist() == [2, 2]
    assert profile["2.bias"].first_step.tolist() == [4, 4]  # the weights before the step


def test_a_step_that_is_not_measured_calls_two_functions_and_no_torch() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    calls: list[str] = []

    def note(frame: object, event: str, arg: object) -> None:
        code = getattr(frame, "f_code", None)
        if PACKAGE in Path(getattr(code, "co_filename", "")).parents and event.endswith("call"):
            calls.append(code.co_name if event == "call" else getattr(arg, "__name__", repr(arg)))

    with fmstats.track_parameters(model, optimizer, every=2):
        step(model, optimizer)
        sys.setprofile(note)
        try:
            step(model, optimizer)
        finally:
            sys.setprofile(None)
    assert calls == ["before", "before_step", "after", "after_step"]


def test_flattened_parameters_are_refused() -> None:
    class FullyShardedDataParallel(nn.Module):
        """It has the name of torch's, which needs a process group."""

    model = nn.Sequential(net(), FullyShardedDataParallel())
    with pytest.raises(FmstatsError, match=r"Sequential has a FullyShardedDataParallel.*fully_sh"):
        fmstats.track_parameters(model)
