"""`make gpu-check`: its parts, their processes, its file; parity and large tensors on the CPU."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import fmstats.backends
from fmstats.backends.cpu import CpuBackend
from fmstats.backends.cuda.backend import CudaBackend
from fmstats.tracking.clocks import Clocks

gpu_check = importlib.import_module("gpu_check")
large = importlib.import_module("gpu_checks.large")
machine = importlib.import_module("gpu_checks.machine")
nonfinite = importlib.import_module("gpu_checks.nonfinite")
masks = importlib.import_module("gpu_checks.masks")
parity = importlib.import_module("gpu_checks.parity")
predict = importlib.import_module("predict")
reports = importlib.import_module("gpu_checks.report")
sanitizer = importlib.import_module("gpu_checks.sanitizer")

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(
    CpuBackend().why_not() is not None, reason="the native module is not built"
)


@pytest.fixture
def setup() -> object:
    return reports.Setup(CpuBackend(), CPU, quick=True)


class Broken(CpuBackend):
    """Loses an element."""

    def meter(self, state: object, thresholds: object, clock: object = None) -> object:
        meter = super().meter(state, thresholds, clock)
        meter.try_update = lambda x: False
        update = meter.update
        meter.update = lambda x, view: (update(x, view), state["count"].sub_(1))
        return meter


def outcomes(report: object) -> list[str]:
    return [check["outcome"] for check in report.checks]


def test_without_a_gpu_it_says_what_is_missing() -> None:
    why = CudaBackend().why_not()
    if why is None:
        pytest.skip("there is a GPU here")
    script = Path(gpu_check.__file__)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == gpu_check.NOTHING_TO_CHECK == 2
    assert done.stdout == ""
    assert done.stderr == f"gpu-check: the cuda backend cannot be used: {why}\n"


def test_the_pass_of_a_nan_is_checked(setup: object, monkeypatch: pytest.MonkeyPatch) -> None:
    report = reports.Report("nonfinite")
    nonfinite.run(setup, report)
    assert outcomes(report) == ["passed", "skipped", "passed"], report.checks
    report = reports.Report("nonfinite")
    monkeypatch.setattr(Clocks, "begin_pass", lambda self: None)
    nonfinite.run(setup, report)
    assert outcomes(report) == ["failed", "skipped", "failed"]


def test_a_failed_check_is_noted_and_the_next_one_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = reports.Report("some", path=tmp_path / "some.json")
    assert report.check("good", lambda: "fine")

    def lacking() -> None:
        raise reports.Skipped("no such tool")

    def bad() -> None:
        raise AssertionError("seven is not eight")

    assert not report.check("bad", bad)
    assert report.check("lacking", lacking)
    assert outcomes(report) == ["passed", "failed", "skipped"]
    assert "seven is not eight (test_gpu_check.py:" in report.checks[1]["detail"]
    assert reports.Report.read("some", tmp_path / "some.json") == reports.Report(
        "some", report.checks, {}
    )
    assert reports.Report.read("other", tmp_path / "none.json").checks == []
    assert "no such tool" in capsys.readouterr().out
    summary = gpu_check.summarize([report])
    assert "1 passed, 1 failed, 1 skipped" in summary
    assert "FAILED some: bad: " in summary


@pytest.mark.parametrize("dtype", [torch.float32, torch.float8_e5m2], ids=str)
def test_parity_of_the_cpu_backend(dtype: torch.dtype) -> None:
    these = list(parity.cases(dtype, "channels last", quick=True))
    assert {case.thresholds for case in these} == set(parity.THRESHOLDS)
    text = parity.check_all(CpuBackend(), CPU, these)
    assert text.startswith(f"{len(these)} cases")


def test_parity_sees_a_lost_element() -> None:
    case = parity.Case(torch.float32, "contiguous", "normal", (2, 3), "none")
    with pytest.raises(AssertionError, match=r"1 of 1 cases:\n.*normal \(2, 3\), thresholds none"):
        parity.check_all(Broken(), CPU, [case])


def test_determinism_sees_other_bits() -> None:
    class Drifting(CpuBackend):
        runs = 0

        def meter(self, state: object, thresholds: object, clock: object = None) -> object:
            Drifting.runs += 1
            state["mean"].fill_(1e-9 * Drifting.runs)
            state["count"].fill_(1)
            return super().meter(state, thresholds, clock)

    case = parity.Case(torch.float32, "contiguous", "normal", (2, 3), "none")
    with pytest.raises(AssertionError, match="differs from the first in"):
        parity.check_same_bits(Drifting(), CPU, case)


def test_a_whole_part_of_masks(setup: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "QUICK_DTYPES", (torch.float32, torch.bfloat16))
    report = reports.Report("masks")
    masks.run(setup, report)
    assert outcomes(report) == ["passed"] * 2 * len(parity.samples.LAYOUTS)
    assert all("4 of 4 second batches" in check["detail"] for check in report.checks)


def test_masks_see_a_lost_element(setup: object) -> None:
    class Losing(CpuBackend):
        def meter(self, state: object, thresholds: object, clock: object = None) -> object:
            meter = super().meter(state, thresholds, clock)
            update = meter.update_groups
            meter.update_groups = lambda *given: (update(*given), state["count"].sub_(1))
            return meter

    broken = reports.Setup(Losing(), CPU, quick=True)
    with pytest.raises(AssertionError):
        masks.check_layout(broken, torch.float32, "contiguous")


def test_a_whole_part_of_parity(setup: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "QUICK_DTYPES", (torch.float32,))
    monkeypatch.setattr(parity, "QUICK_KINDS", ("normal",))
    report = reports.Report("parity")
    parity.run(setup, report)
    layouts = len(parity.samples.LAYOUTS)
    assert len(report.checks) == 2 * layouts + 1
    assert report.count("failed") == 0


@pytest.mark.parametrize("one", large.LARGE, ids=lambda one: one.name)
def test_large_tensors_made_small(setup: object, one: object) -> None:
    assert "positions a channel" in large.check_large(setup, one, far=1 << 12)


def test_large_tensors_see_a_lost_element() -> None:
    broken = reports.Setup(Broken(), CPU)
    with pytest.raises(AssertionError, match="count"):
        large.check_large(broken, large.LARGE[0], far=1 << 10)


def test_large_tensors_really_are() -> None:
    native = importlib.import_module("fmstats._native")
    kernels = set()
    for one in large.LARGE:
        flat = torch.empty(one.elements(large.FAR), dtype=one.dtype, device="meta")
        x = one.arrange(flat)
        assert x.numel() > large.FAR
        view = large.view_of(x, 1)
        code = fmstats.backends.DTYPES.index(one.dtype)
        launch = native.CudaLaunch(code, 0, view.channels, view.channel_stride, view.dims, 132)
        kernels.add(launch.kernel)
        if one.name.startswith("2^31 positions"):
            assert view.positions > large.FAR
    assert kernels >= {"rows", "ragged", "strided", "columns", "columns_one"}


def test_the_sanitizer_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    script = Path(gpu_check.__file__)
    with pytest.raises(reports.Skipped, match="not on PATH"):
        sanitizer.check_tool("memcheck", script, 60)
    tool = tmp_path / "compute-sanitizer"
    tool.write_text('#!/bin/sh\necho "$@"\necho "ERROR SUMMARY: 0 errors"\n')
    tool.chmod(0o755)
    said = sanitizer.check_tool("memcheck", script, 60)
    assert said == "ERROR SUMMARY: 0 errors"
    tool.write_text(
        f'#!/bin/sh\necho "$@ $PYTORCH_NO_CUDA_MEMORY_CACHING"\nexit {sanitizer.FOUND}\n'
    )
    with pytest.raises(AssertionError, match=r"status 86:\n--tool memcheck .*kernels-once 1"):
        sanitizer.check_tool("memcheck", script, 60)


def test_every_kernel_runs_under_the_sanitizer() -> None:
    native = importlib.import_module("fmstats._native")
    kernels, tickets = set(), set()
    for layout, shape in sanitizer.CASES:
        x, dim = parity.samples.LAYOUTS[layout](torch.zeros(shape))
        view = large.view_of(x, dim)
        launch = native.CudaLaunch(0, 0, view.channels, view.channel_stride, view.dims, 132)
        kernels.add(launch.kernel)
        tickets |= {launch.kernel} if launch.grid[1] > 1 else set()
    assert kernels == set(predict.KERNELS)
    assert tickets == {"rows", "ragged", "strided", "columns", "columns_one"}


def test_a_part_that_dies_or_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "dies.py"
    script.write_text("import os\nos._exit(9)\n")
    monkeypatch.setattr(gpu_check, "__file__", str(script))
    report = gpu_check.run_apart("machine", True, tmp_path)
    assert report.checks[-1]["detail"] == "its process ended with status 9"
    script.write_text("import time\ntime.sleep(60)\n")
    hangs = gpu_check.Part("hangs", "none", 1)
    monkeypatch.setattr(gpu_check, "PARTS", {"machine": hangs})
    report = gpu_check.run_apart("machine", True, tmp_path)
    assert report.checks[-1]["detail"] == "ended after 1 s"


def test_a_part_that_cannot_begin_is_told(setup: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(gpu_check.PARTS, "broken", gpu_check.Part("broken", "no_such_module", 1))
        report = gpu_check.run_part("broken", setup)
    assert outcomes(report) == ["failed"]
    assert "no_such_module" in report.checks[0]["detail"]


def test_a_worker_runs_its_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    part = SimpleNamespace(run=lambda setup, report: seen.append((setup, report.part)))
    monkeypatch.setitem(sys.modules, "a_part", part)
    monkeypatch.setitem(gpu_check.PARTS, "some", gpu_check.Part("some", "a_part", 1))
    monkeypatch.setattr(gpu_check.CudaBackend, "why_not", lambda self: None)
    monkeypatch.setattr(gpu_check, "choose_backend", lambda name, device: (name, device))
    path = tmp_path / "some.json"
    assert gpu_check.main(["--worker", "some", "--quick", "--out", str(path)]) == 0
    device = torch.device("cuda", 0)
    assert seen == [(reports.Setup(("cuda", device), device, True), "some")]
    assert json.loads(path.read_text())["figures"]["part_seconds"] > 0
    monkeypatch.setattr(sanitizer, "check_kernels", lambda setup: "54 cases")
    assert gpu_check.main(["--worker", "kernels-once"]) == 0


def test_every_part_can_begin() -> None:
    for part in gpu_check.PARTS.values():
        assert callable(part.start())


def test_the_file_keeps_other_parts_and_is_what_predictions_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hook = {
        **{"kernel": "rows", "dtype": "float32", "shape": [64, 256, 56, 56]},
        **{"layout": "contiguous", "seconds": 1.2e-4, "predicted_seconds": 1.1e-4},
    }
    found = {
        "bandwidth": reports.Report("bandwidth", [], {"hooks": [hook]}),
        "streams": reports.Report("streams", [{"name": "a", "outcome": "failed", "detail": "b"}]),
    }
    monkeypatch.setattr(gpu_check.CudaBackend, "why_not", lambda self: None)
    monkeypatch.setattr(gpu_check, "run_apart", lambda name, quick, folder: found[name])
    monkeypatch.setattr(machine, "short_name", lambda device: "H100")
    path = tmp_path / "gpu-check.json"
    assert gpu_check.main(["--part", "bandwidth", "--json", str(path)]) == 0
    assert gpu_check.main(["--part", "streams", "--json", str(path)]) == 1
    assert "[1/1] streams: streams and CUDA graphs" in capsys.readouterr().out
    written = json.loads(path.read_text())
    assert set(written["parts"]) == {"bandwidth", "streams"}
    assert written["machine"]["torch"] == torch.__version__
    cost = predict.Cost(1.0, {}, 1 << 15)
    rows = predict.hook_rows([written], [torch.float32], lambda *what: cost)
    assert rows[1][-1] == "120.0 (H100)"
    monkeypatch.setattr(machine, "short_name", lambda device: "A100")
    gpu_check.main(["--part", "streams", "--json", str(path)])
    assert set(json.loads(path.read_text())["parts"]) == {"streams"}


def test_help_asks_the_question(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu_check.main(["--help"])
    assert ended.value.code == 0
    assert "python benchmarks/gpu_check.py" in capsys.readouterr().out
