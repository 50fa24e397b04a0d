"""What `make gpu-check` says of a budget, by clocks that tests turn, on a fake torch.cuda."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest
import torch
from fake_cuda import FakeCuda, FakeGraph, FakeStream
from stub_device import Machine
from torch import nn

from fmstats.backends.cpu import CpuBackend
from fmstats.tracking.layers import Layer

budget = importlib.import_module("gpu_checks.budget")
reports = importlib.import_module("gpu_checks.report")

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(
    CpuBackend().why_not() is not None, reason="the native module is not built"
)


class There(reports.Setup):
    """A place that says of itself that it is a GPU."""

    on_gpu = True


def outcomes(report: object) -> list[str]:
    return [check["outcome"] for check in report.checks]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Layers take 10 ms, and measuring each takes 3 ms."""
    machine, update = Machine(), Layer.update

    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            machine.now += 0.01
            return x

    def slow(self: Layer, output: object) -> None:
        machine.now += 0.003
        update(self, output)

    for module in ("fmstats.tracking.sampling", "fmstats.tracking.pass_hooks", "gpu_checks.budget"):
        monkeypatch.setattr(f"{module}.clock", lambda: machine.now)
    monkeypatch.setattr(Layer, "update", slow)
    monkeypatch.setattr(budget, "build", lambda: nn.Sequential(Slow(), Slow()))
    monkeypatch.setattr(budget, "PASSES", 60)
    for name in ("LARGE", "SMALL"):
        monkeypatch.setattr(budget, name, (2, 3))
    return machine


def test_a_budget_is_checked(machine: Machine) -> None:
    report = reports.Report("budget")
    budget.run(reports.Setup(CpuBackend(), CPU), report)
    assert outcomes(report) == ["passed", "passed", "skipped", "skipped"], report.checks
    found = report.figures["large tensors"]
    assert found["seconds"]["bare"] == pytest.approx(0.02)
    assert found["seconds"]["idle"] == pytest.approx(0.02)
    assert found["seconds"]["all measured"] == pytest.approx(0.026)
    assert found["seconds"]["budget"] == pytest.approx(0.021, rel=0.01)
    assert found["told"]["every"] == pytest.approx(6, rel=0.1)
    assert "one pass in 6" in report.checks[0]["detail"]


def test_a_budget_that_is_not_kept_is_seen(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fmstats.tracking.budget.Allowance.affords", lambda self, passes: True)
    report = reports.Report("budget")
    budget.run(reports.Setup(CpuBackend(), CPU, quick=True), report)
    assert outcomes(report) == ["failed", "failed", "skipped", "skipped"]
    assert "30.00% added" in report.checks[0]["detail"]


def test_what_is_added_and_not_told_is_seen() -> None:
    assert "5.00% added" in budget.judge([1.0, 1.0, 1.0], [1.05, 1.05, 1.0], 0.05)
    assert "2.00% between" in budget.judge([0.99, 1.0, 1.01], [1.07, 1.07, 1.0], 0.05)
    for budgeted, told in ((1.06, 0.05), (1.05, 0.06), (1.05, None)):
        with pytest.raises(AssertionError):
            budget.judge([1.0, 1.0, 1.0], [budgeted] * 3, told)


def test_a_device_whose_events_tell_nothing_is_seen(machine: Machine, cuda: FakeCuda) -> None:
    there, report = There(CpuBackend(), CPU, quick=True), reports.Report("budget")
    budget.run(there, report)
    assert outcomes(report) == ["failed", "failed", "passed", "failed"]
    assert "do not tell" in report.checks[0]["detail"]
    modes = [args for name, args in cuda.calls if name == "set_sync_debug_mode"]
    assert modes == [("error",), ("default",)]


def test_a_capture_under_a_budget(
    machine: Machine, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, run = budget.capture, []

    def capture(call: Callable[[], object], stream: FakeStream) -> FakeGraph:
        run.append(call)
        return real(lambda: None, stream)

    monkeypatch.setattr(budget, "capture", capture)
    monkeypatch.setattr("fmstats.tracking.specs.DeviceTimers", lambda clocks: machine.timers())
    said = budget.check_capture(There(CpuBackend(), CPU))
    assert said == "one pass in 6 before the capture, in 6 after replays"
    assert len(run) == 1
