"""What `make gpu-check` measures and says of the machine, without a GPU: the logic, no figure."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import cuda_host
import pytest
import torch
from fake_cuda import FakeCuda
from torch import nn

from fmstats.backends.cpu import CpuBackend

bandwidth = importlib.import_module("gpu_checks.bandwidth")
clock = importlib.import_module("gpu_checks.clock")
machine = importlib.import_module("gpu_checks.machine")
gpu_models = importlib.import_module("gpu_checks.models")
predict = importlib.import_module("predict")
reports = importlib.import_module("gpu_checks.report")

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(
    CpuBackend().why_not() is not None, reason="the native module is not built"
)


@pytest.fixture
def setup() -> object:
    return reports.Setup(CpuBackend(), CPU, quick=True)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def test_a_device_is_timed_behind_a_wait(cuda: FakeCuda) -> None:
    seconds = clock.seconds_of([lambda: None] * 4, torch.device("cuda", 0))
    assert seconds == pytest.approx(2e-3 / 4)
    assert ("_sleep", (4 * clock.CLOCKS_A_CALL,)) in cuda.calls


def test_a_slow_host_is_given_more_time(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda.Event, "query", lambda self: True)
    with pytest.raises(clock.HostBound):
        clock.seconds_of([lambda: None], torch.device("cuda", 0))
    sleeps = [args[0] for name, args in cuda.calls if name == "_sleep"]
    assert sleeps[1] == 2 * sleeps[0]


def test_ways_are_timed_in_turn() -> None:
    order: list[str] = []
    ways = {name: [lambda name=name: order.append(name)] * 2 for name in "ab"}
    found = clock.rounds_of(ways, CPU, rounds=3, least=0.0)
    assert {name: len(each) for name, each in found.items()} == {"a": 3, "b": 3}
    assert "".join(order[-12:]) == "aabb" * 3


@pytest.mark.parametrize(
    ("name", "multiprocessors", "known"),
    [
        ("NVIDIA H100 80GB HBM3", 132, "H100"),
        ("NVIDIA H200", 132, "H200"),
        ("NVIDIA A100-SXM4-80GB", 108, "A100"),
        ("NVIDIA A100-SXM4-40GB", 108, None),
        ("NVIDIA H100 PCIe", 114, None),
        ("NVIDIA GH200 480GB", 132, None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 132, None),
    ],
)
def test_gpus_by_name(name: str, multiprocessors: int, known: str | None) -> None:
    found = bandwidth.gpu_of(name, multiprocessors)
    assert (found.name if found else None) == known


def test_bandwidth_rows(setup: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "QUICK", (((2, 8, 7, 7), "contiguous"), ((4, 5, 16), "last")))
    monkeypatch.setattr(bandwidth, "QUICK_DTYPES", (torch.float32, torch.float8_e5m2))
    monkeypatch.setattr(bandwidth, "device_gpu", lambda device: predict.GPUS["H100"])
    monkeypatch.setattr(bandwidth, "time_of", lambda *what: 1e-6)
    report = reports.Report("bandwidth")
    bandwidth.run(setup, report)
    assert report.count("failed") == 0
    rows = report.figures["hooks"]
    assert [row["kernel"] for row in rows] == [
        *("ragged_warp", "ragged_warp", "columns", "columns")
    ]
    assert rows[1]["sum_seconds"] is None  # no sum of 8-bit floats
    assert all(row["predicted_seconds"] == 1e-6 for row in rows)
    assert set(report.figures["hook_us"]) >= {"bare", "empty", "fmstats", "added"}


def test_models_are_measured(
    setup: object, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small() -> tuple[nn.Module, torch.Tensor]:
        layers = nn.Sequential(nn.Conv2d(3, 4, 7, stride=32), nn.BatchNorm2d(4), nn.ReLU())
        return layers, torch.zeros(1)

    monkeypatch.setattr(gpu_models, "MODELS", {gpu_models.MODEL: small})
    monkeypatch.setattr(gpu_models, "BATCH", 2)
    report = reports.Report("models")
    gpu_models.run(setup, report)
    assert report.count("failed") == 0, report.checks
    steps = [(row["step"], row["way"]) for row in report.figures["steps"]]
    ways = ("bare", "empty", "fmstats", "seed")
    assert steps == [(step, way) for step in ("inference", "training") for way in ways]
    overheads = report.figures["models"]
    assert [entry["step"] for entry in overheads] == ["inference", "training"]
    assert {entry["layout"] for entry in overheads} == {"channels_last"}
    assert report.figures["graphs"][0]["ratio"] > 0


def test_the_machine_is_described(
    setup: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '570.1, 1980 MHz, 2619 MHz, 700.00 W, Enabled, Disabled'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.driver_says()["driver_version"] == "570.1"
    assert machine.driver_says()["mig.mode.current"] == "Disabled"
    found = SimpleNamespace(
        name="NVIDIA X", major=9, minor=0, multi_processor_count=132, total_memory=1 << 36
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    report = reports.Report("machine")
    machine.run(setup, report)
    assert report.checks[1]["outcome"] == report.checks[2]["outcome"] == "passed"
    assert "cpu" in report.figures["backends"]
    if cuda_host.why_not() is None:
        assert report.figures["gpu"]["capability"] == "9.0"


def test_names_of_gpus(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA X")
    assert machine.short_name(device) == "NVIDIA X"
    h100 = SimpleNamespace(name="NVIDIA H100 80GB HBM3", multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: h100)
    assert machine.short_name(device) == "H100"
