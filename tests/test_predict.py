"""Predictions follow from counts as worked by hand; no kernel is compiled here."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from fmstats.backends.native import load_native
from fmstats.errors import FmstatsError

nvrtc = importlib.import_module("fmstats.backends.cuda.nvrtc")
gpus = importlib.import_module("hardware.gpus")
predict = importlib.import_module("predict")
steps = importlib.import_module("hardware.steps")

A100 = gpus.GPUS["A100"]
COST = predict.Cost(8.0, {"ALU": 4.0, "FMA": 3.0, "LSU": 0.25}, 1 << 15)


def costs(kernel: str, dtype: torch.dtype, mode: int, gpu: object) -> object:
    return COST


NATIVE = pytest.mark.skipif(load_native() is None, reason="the native module is not built")


@NATIVE
@pytest.mark.parametrize(
    ("shape", "layout", "dtype", "kernel"),
    [
        ((64, 8, 56, 56), "contiguous", torch.float32, "rows"),
        ((4, 8, 6, 6), "contiguous", torch.float32, "rows_warp"),
        ((640, 8, 7, 7), "contiguous", torch.float32, "ragged"),  # 196 bytes a run
        ((64, 2048, 7, 7), "contiguous", torch.float32, "ragged_warp"),  # many short channels
        ((64, 8, 14, 14), "contiguous", torch.bfloat16, "ragged"),  # 392 bytes
        ((4, 8, 7, 7), "contiguous", torch.float32, "ragged_warp"),
        ((64, 8, 1, 3), "contiguous", torch.float32, "strided_warp"),  # less than a vector
        ((4, 8, 6, 6), "channels_last", torch.float32, "columns"),
        ((4, 7, 6, 6), "channels_last", torch.float32, "columns_one"),
        ((4, 12, 6, 6), "channels_last", torch.bfloat16, "columns_one"),  # 24 bytes
        ((2, 5, 64), "last", torch.float16, "columns"),
        ((8, 1024, 1, 1), "contiguous", torch.float32, "columns"),
    ],
)
def test_tensors_take_their_kernels(
    shape: tuple[int, ...], layout: str, dtype: torch.dtype, kernel: str
) -> None:
    view = predict.tensor(shape, layout, dtype)
    assert predict.kernel_for(view, dtype, A100) == kernel
    assert kernel in predict.KERNELS


def test_without_a_planner_there_is_no_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "load_native", lambda: None)
    with pytest.raises(FmstatsError, match="native module"):
        predict.time_of(
            predict.tensor((2, 3), "last", torch.float32), torch.float32, 0, A100, costs
        )


@NATIVE
def test_a_hook_by_hand() -> None:
    view = predict.tensor((64, 256, 56, 56), "contiguous", torch.float32)
    bytes_read = 64 * 256 * 56 * 56 * 4
    found = predict.time_of(view, torch.float32, nvrtc.PLAIN, A100, costs)
    assert found == pytest.approx(bytes_read / (2.039e12 * 0.9) + 3e-6)


def test_a_cost_is_the_hot_loop_over_its_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    sass = importlib.import_module("hardware.sass")
    lines = ["LDG.E.128 R4, [R2.64]", "FADD R0, R0, R4", "FMNMX R1, R1, R5, PT", "BRA 0x0"]
    opcodes = [line.split(" ", 1) for line in lines]
    code = [sass.Instruction(16 * n, "", *line) for n, line in enumerate(opcodes)]
    code[-1] = sass.Instruction(48, "P0", "BRA", "0x0")
    code.append(sass.Instruction(64, "", "EXIT", ""))
    kernel = sass.KernelCode("rows", sass.Resources(32, 0, 0, 0), code)
    monkeypatch.setattr(predict, "code_of", lambda *_: kernel)
    cost = predict.cost("rows", torch.bfloat16, nvrtc.PLAIN, A100)
    assert cost.instructions == 0.5  # four over eight elements
    assert cost.pipes == {"LSU": 0.125, "FMA": 0.125, "ALU": 0.125, "branch": 0.125}
    assert cost.in_flight == 8 * 256 * 16


def test_kernels_are_compiled_for_their_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    native = pytest.importorskip("fmstats._native", reason="needs the native module")
    asked = []
    monkeypatch.setattr(nvrtc, "compile_kernel", lambda *what: asked.append(what) or b"")
    for dtype in predict.DTYPES:
        predict.cubin_of("rows", dtype, nvrtc.ALL, "sm_90")
    assert [f"torch.{native.DTYPES[what[1]]}" for what in asked] == [str(d) for d in predict.DTYPES]
    assert asked[0] == ("rows", 0, nvrtc.ALL, "sm_90", nvrtc.NOTHING)


@NATIVE
def test_tables_say_what_was_measured() -> None:
    check = {
        "gpu": "A100",
        "hooks": [
            {
                "kernel": "rows",
                "dtype": "float32",
                "shape": [64, 256, 56, 56],
                "layout": "contiguous",
                "seconds": 1.2e-4,
                "predicted_seconds": 1.1e-4,
            }
        ],
        "models": [
            {**what, "layout": layout, "overhead": overhead}
            for what in [{"model": "ResNet-50", "dtype": "float32", "step": "training"}]
            for layout, overhead in (("contiguous", 0.21), ("channels_last", 0.11))
        ],
    }
    rows = predict.hook_rows([check], [torch.float32], costs)
    assert len(rows) == 1 + len(predict.SHAPES)
    assert rows[1][-1] == "120.0 (A100)"
    assert {row[-1] for row in rows[2:]} == {"not measured"}
    layer = steps.Layer("a", predict.tensor((4, 8, 6, 6), "contiguous", torch.float32), 1e9, 9, 3)
    rows = predict.model_rows([check], lambda model: [layer], costs)
    assert [row[-1] for row in rows if row[-1] != "not measured"] == ["measured", "21% (A100)"]
    assert predict.model_rows([], lambda model: [layer], costs)[1][-1] == "not measured"


def test_lanes_that_meet_take_turns() -> None:
    """An atomic of 8 lanes in a bank takes 8 times as long as one of lanes that do not meet."""
    costly = predict.Cost(8.0, {"LSU": 1.25}, 1 << 30)
    _, *rows = predict.requested_rows([torch.float32], lambda *_: costly)
    shares = {(row[0], row[1]): row[-2] for row in rows}  # of the H200
    assert shares["columns", "power sums"] == "90% memory"
    clocks = 0.9 * 132 * 1.98e9 * 32
    share = 4 * clocks / (1.25 + 7) / 4.8e12
    assert shares["columns", "histogram of the layer"] == f"{share:.0%} LSU"


def test_every_kernel_is_predicted() -> None:
    assert set(predict.KERNELS) == set(nvrtc.KERNELS)


def test_every_kernel_has_its_line() -> None:
    rows = predict.kernel_rows([torch.float32, torch.bfloat16], costs)
    assert len(rows) == 1 + 2 * len(predict.KERNELS)
    assert rows[1][:4] == ["rows", "float32", "8.0 / 8.0 / 8.0", "32 / 32 / 32"]
    assert rows[1][4] == "90% memory"
    assert len({len(row) for row in rows}) == 1


def test_a_step_by_hand() -> None:
    view = predict.tensor((4, 8, 6, 6), "contiguous", torch.float32)
    bound_by_arithmetic = steps.Layer("conv", view, 187.2e12, 10, 10)
    bound_by_memory = steps.Layer("norm", view, 0.0, int(0.9 * 2.039e12 / 2), 0)
    layers = [bound_by_arithmetic, bound_by_memory]
    found = steps.step_seconds(layers, torch.bfloat16, "inference", A100)
    assert found == pytest.approx(1 + 1 + 2 * 3e-6)  # 0.6 of 312e12; 2 bytes each
    again = steps.step_seconds(layers, torch.float32, "inference", A100)
    assert again == pytest.approx(2 + 2 + 2 * 3e-6)
    trained = steps.step_seconds(layers, torch.bfloat16, "training", A100)
    assert trained == pytest.approx(3 * found, rel=1e-6)


def test_operations_of_leaves() -> None:
    with torch.device("meta"):
        linear, conv = nn.Linear(3, 5), nn.Conv2d(4, 6, 3)
        depthwise, grouped = nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 6, 3, groups=2)
        x = torch.empty(2, 3)
        image = torch.empty(2, 4, 8, 8)
    assert steps.flops_of(linear, linear(x)) == 2 * 2 * 5 * 3
    assert steps.flops_of(conv, conv(image)) == 2 * (2 * 6 * 6 * 6) * 4 * 9
    assert steps.flops_of(grouped, grouped(image)) == 2 * (2 * 6 * 6 * 6) * 2 * 9
    assert steps.flops_of(depthwise, depthwise(image)) == 0
    assert steps.flops_of(nn.ReLU(), image) == 0


def test_layers_of_a_resnet() -> None:
    pytest.importorskip("transformers")
    layers = steps.layers_of("ResNet-50")
    # torchvision's documentation: 4.09 billion multiply-adds an image, 25.6 million parameters, of
    # which the classifier's 2.0 are not in this model.
    assert sum(layer.flops for layer in layers) / steps.BATCH == pytest.approx(2 * 4.1e9, rel=0.02)
    assert sum(layer.parameters for layer in layers) == pytest.approx(23.5e6, rel=0.01)
    assert all(layer.view.positions % steps.BATCH == 0 for layer in layers)


def test_what_was_written_says_predicted() -> None:
    text = (predict.DOCS / "performance.md").read_text()
    inside = text.partition("<!-- predicted -->")[2].partition("<!-- /predicted -->")[0]
    assert inside
    parts = [part for part in inside.split("\n\n") if part.strip()]
    for before, table in zip(parts[::2], parts[1::2], strict=True):
        assert before.strip().startswith("Predicted:")
        assert table.startswith("|")
    # What stands beside a GPU's name was measured on it, and its check is kept.
    checks = [json.loads(path.read_text()) for path in predict.DOCS.glob("gpu-check*.json")]
    told = re.findall(r"^\|.* \((\w+)\) \|$", inside, re.MULTILINE)
    assert set(told) == {check["gpu"] for check in checks}


def test_writing_replaces_what_stands_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "performance.md"
    page.write_text("a\n<!-- predicted -->\nold\n<!-- /predicted -->\nb\n")
    (tmp_path / "gpu-check-a100.json").write_text(json.dumps({"gpu": "A100"}))
    seen = []
    monkeypatch.setattr(predict, "DOCS", tmp_path)
    monkeypatch.setattr(predict, "report", lambda dtypes, checks: seen.append(checks) or "tables")
    predict.main(["--write", "--quick"])
    assert seen == [[{"gpu": "A100"}]]
    assert page.read_text() == "a\n<!-- predicted -->\n\ntables\n\n<!-- /predicted -->\nb\n"
    predict.main([])
    assert capsys.readouterr().out.endswith("tables\n")


def test_help_asks_the_question(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        predict.main(["--help"])
    assert ended.value.code == 0
    assert "python benchmarks/predict.py" in capsys.readouterr().out
    assert "?" in (inspect.getdoc(predict) or "").split("\n\n")[0]
