"""What docs/calibration.md shows of other tools does what it says, with the real ones."""

from __future__ import annotations

import copy
import importlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_docs import ROOT, blocks_of
from torch import Tensor, nn

import fmstats
from fmstats.calibration import QParams

PAGE = ROOT / "docs" / "calibration.md"


def block_with(word: str) -> str:
    found = [b.text for b in blocks_of(PAGE) if b.kind == "python" and word in b.text]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page has defined before a tool's part of it."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 8)).eval()
    data = [torch.randn(32, 16) for _ in range(8)]
    profile = fmstats.profile(model, data, measure="histogram", backend="torch", progress=False)
    scales = profile.qparams("uint8", "mse")
    return {"fmstats": fmstats, "torch": torch, "model": model, "data": data} | {
        "profile": profile,
        "scales": scales,
    }


def decibels(want: Tensor, got: Tensor) -> float:
    return float(10 * torch.log10(want.square().sum() / (want - got).square().sum()))


@pytest.mark.filterwarnings("ignore")  # of what torchao loads
@pytest.mark.parametrize("scheme", ["int8", "int8-affine"])
def test_torchao_takes_scales_of_inputs(names: dict[str, Any], scheme: str) -> None:
    pytest.importorskip("torchao")
    exact, shown = copy.deepcopy(names["model"]), block_with("torchao.quantization")
    if scheme == "int8-affine":  # what the page says below the block
        shown = shown.replace('"int8"', '"int8-affine"').replace(
            "granularity=PerTensor()",
            "granularity=PerTensor(), act_mapping_type=MappingType.ASYMMETRIC, "
            "act_quant_zero_point=torch.tensor(layer.zero_point, dtype=torch.int8).view(1, 1)",
        )
        primitives = importlib.import_module("torchao.quantization.quant_primitives")
        names["MappingType"] = primitives.MappingType
    exec(shown, names)
    scales: QParams = names["scales"]
    assert (list(scales), scales.settings["of"]) == (["0", "2"], "input")
    x = names["data"][0]
    with torch.no_grad():
        want, got = exact(x), names["model"](x)
        with scales.fake_quantized(exact):
            faked = exact(x)
    for name, layer in scales.items():
        weight = names["model"].get_submodule(name).weight
        assert float(weight.act_quant_scale) == float(layer.scale)
    assert decibels(want, got) > 35
    assert decibels(faked, got) > 35  # what is left is of the weights


def as_onnx(model: nn.Sequential) -> Any:
    """The model as a file of ONNX, with the tensors that the page names."""
    onnx = pytest.importorskip("onnx")
    tensor, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    weights = [
        onnx.numpy_helper.from_array(value.numpy(), name)
        for name, value in model.state_dict().items()
    ]
    nodes = [
        node("Gemm", ["input", "0.weight", "0.bias"], ["hidden"], transB=1),
        node("Relu", ["hidden"], ["active"]),
        node("Gemm", ["active", "2.weight", "2.bias"], ["scores"], transB=1),
    ]
    ends = ([tensor(name, 1, ["n", width])] for name, width in (("input", 16), ("scores", 8)))
    graph = onnx.helper.make_graph(nodes, "net", *ends, weights)
    opsets = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)


@pytest.mark.filterwarnings("ignore")  # of what onnxruntime loads
@pytest.mark.parametrize("scheme", ["uint8", "int8-affine", "int8"])
def test_onnxruntime_takes_ranges_of_tensors(names: dict[str, Any], scheme: str) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    onnx.save(as_onnx(names["model"]), "net.onnx")
    shown = block_with("onnxruntime.quantization")
    if scheme != "uint8":  # what the page says in and below the block
        names["scales"] = names["profile"].qparams(scheme, "mse")
        shown = shown.replace('"uint8", "mse"', f'"{scheme}", "mse"').replace("QUInt8", "QInt8")
    if scheme == "int8":
        shown = shown.replace(
            "calibration_cache_path",
            'extra_options={"ActivationSymmetric": True}, calibration_cache_path',
        )
    exec(shown, names)
    made = {
        value.name: onnx.numpy_helper.to_array(value)
        for value in onnx.load("net.int8.onnx").graph.initializer
    }
    for tensor, layer in (("active", names["scales"]["1"]), ("input", names["first"])):
        np.testing.assert_allclose(made[f"{tensor}_scale"], layer.scale, rtol=1e-6)
        assert made[f"{tensor}_zero_point"] == layer.zero_point
    session = runtime.InferenceSession("net.int8.onnx", providers=["CPUExecutionProvider"])
    x = names["data"][0]
    got = torch.from_numpy(session.run(None, {"input": x.numpy()})[0])
    with torch.no_grad():
        assert decibels(names["model"](x), got) > 30


def test_a_cache_of_tensorrt_is_as_documented(names: dict[str, Any]) -> None:
    """TensorRT is not here: this holds the format of the README of its sampleINT8."""
    exec(block_with("EntropyCalibration2"), names)
    first, *lines = Path("calibration.cache").read_text().splitlines()
    assert first == "TRT-100100-EntropyCalibration2"
    assert [line.split(": ")[0] for line in lines] == ["0", "1", "2"]
    for line in lines:
        name, number = line.split(": ")
        (scale,) = struct.unpack(">f", bytes.fromhex(number))
        assert scale == names["symmetric"][name].scale
        assert scale * 127 == pytest.approx(float(names["symmetric"][name].high))
    # A line of a real cache, with the number that NVIDIA says it stands for.
    assert struct.unpack(">f", bytes.fromhex("3c92aa10"))[0] == pytest.approx(0.0179033577)
