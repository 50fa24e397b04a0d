"""Scales of a model: what they print, their files, and a model that runs with their errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

import fmstats
from fmstats.calibration import SCHEMES, LayerQParams, QParams
from fmstats.errors import FmstatsError

X = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    """A network whose first layer has a channel that is always 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = 0.0, 0.0
    return model


def calibrated(scheme: str = "uint8", per: str = "tensor", of: str = "output") -> QParams:
    model = network()
    options = {"measure": "histogram", "histogram": "channel", "backend": "torch", "of": of}
    with torch.no_grad(), fmstats.track(model, **options) as tracker:
        model(X)
    return tracker.stats().qparams(scheme, "mse", per=per)


def same(a: QParams, b: QParams) -> bool:
    return a.to_dict() == b.to_dict() and a.settings == b.settings and list(a) == list(b)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_files_give_back_what_was_saved(suffix: str, scheme: str, per: str, tmp_path: Path) -> None:
    saved, path = calibrated(scheme, per), tmp_path / f"scales{suffix}"
    saved.save(path)
    found = QParams.load(path)
    assert same(found, saved)
    for name, layer in found.items():
        assert (layer.scale.dtype, layer.zero_point.dtype) == (np.float32, np.int64)
        assert layer.scale.shape == saved[name].scale.shape
        assert layer.neutral == saved[name].neutral
    assert found.neutral == ({"0": [1], "1": [1]} if per == "channel" else {})


def test_other_tools_read_the_files(tmp_path: Path) -> None:
    saved = calibrated("int8-affine", "channel")
    saved.save(tmp_path / "scales.safetensors")
    saved.save(tmp_path / "scales.json")
    tensors = load_file(tmp_path / "scales.safetensors")
    assert {*tensors} == {f"{i}.{field}" for i in "012" for field in ("scale", "zero_point")}
    np.testing.assert_array_equal(tensors["2.scale"], saved["2"].scale)
    known = json.loads((tmp_path / "scales.json").read_text())
    assert (known["scheme"], known["method"], known["of"]) == ("int8-affine", "mse", "output")
    assert known["layers"]["2"]["zero_point"] == saved["2"].zero_point.tolist()
    assert known["layers"]["2"]["low"] == saved["2"].low.tolist()


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FmstatsError, match=r"\.safetensors or \.json"):
        calibrated().save(tmp_path / "scales.txt")
    with pytest.raises(FmstatsError, match="no folder"):
        calibrated().save(tmp_path / "none" / "scales.json")
    with pytest.raises(FmstatsError, match="cannot read"):
        QParams.load(tmp_path / "none.json")
    for name, content in {
        "a.json": b"{}",
        "b.json": b"[]",
        "c.json": b'{"layers": {"0": 1}}',
        "d.json": b"\xff",
        "e.safetensors": b"",
        "f.safetensors": b"12345678{}",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FmstatsError, match=f"{name}' is no file of scales"):
            QParams.load(tmp_path / name)
    safe = calibrated()
    safe.save(tmp_path / "g.json")
    strange = (tmp_path / "g.json").read_text().replace("uint8", "uint3")
    (tmp_path / "g.json").write_text(strange)
    with pytest.raises(FmstatsError, match="unknown scheme 'uint3'"):
        QParams.load(tmp_path / "g.json")


def test_a_table_has_a_row_for_each_layer() -> None:
    lines = str(calibrated("int8", "channel")).splitlines()
    assert lines[0] == "scheme=int8, method=mse, per=channel, of=output"
    assert [line.split()[0] for line in lines[1:5]] == ["layer", "0", "1", "2"]
    assert " to " in lines[2]
    assert str(QParams({}, {"scheme": "int8"})) == "scheme=int8: no layer"
    assert repr(calibrated()).startswith("QParams(3 layers)\nscheme=uint8")


def test_pandas_has_a_row_for_each_scale() -> None:
    pytest.importorskip("pandas")
    frame = calibrated("uint8", "channel").to_pandas()
    assert frame["layer"].tolist() == ["0"] * 4 + ["1"] * 4 + ["2"] * 2
    assert frame["channel"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    whole = calibrated().to_pandas()
    assert (len(whole), whole["channel"].isna().all()) == (3, True)


def test_a_layer_that_is_not_there_names_the_closest() -> None:
    with pytest.raises(KeyError, match="no layer '3'; closest: 0, 1, 2"):
        calibrated()["3"]


@pytest.mark.parametrize("scheme", ["int8", "int8-affine", "uint8"])
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_coded_numbers_are_those_of_torch(scheme: str, per: str) -> None:
    layer = calibrated(scheme, per)["2"]
    x = 3 * torch.randn(50, 2)
    least, most = (int(limit) for limit in SCHEMES[scheme].limits)
    scale, zero_point = torch.as_tensor(layer.scale), torch.as_tensor(layer.zero_point).int()
    if per == "tensor":
        want = torch.fake_quantize_per_tensor_affine(x, float(scale), int(zero_point), least, most)
    else:
        want = torch.fake_quantize_per_channel_affine(x, scale, zero_point, 1, least, most)
    torch.testing.assert_close(layer.fake_quantize(x), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scheme", ["e4m3", "e5m2"])
def test_coded_floats_are_those_of_the_format(scheme: str) -> None:
    layer = calibrated(scheme)["2"]
    x = torch.tensor([0.0, 1e9, -1e9, torch.nan, 0.37]) * float(layer.scale)
    codes = layer.fake_quantize(x) / float(layer.scale)
    largest = {"e4m3": 448.0, "e5m2": 57344.0}[scheme]
    assert codes[:3].tolist() == pytest.approx([0, largest, -largest])
    assert codes[3].isnan()
    assert codes[4] == pytest.approx(0.375)


def test_halves_stay_halves_and_channels_must_fit() -> None:
    layer = calibrated("int8", "channel")["2"]
    assert layer.fake_quantize(torch.ones(3, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16
    for shape in ((3, 4), (2,), ()):
        with pytest.raises(FmstatsError, match="has scales of 2 channels in dim 1"):
            layer.fake_quantize(torch.ones(shape))


def by_hand(qparams: QParams, of: str) -> Tensor:
    x = X
    for name, module in network().named_children():
        x = qparams[name].fake_quantize(x) if of == "input" else x
        x = module(x)
        x = qparams[name].fake_quantize(x) if of == "output" else x
    return x


@pytest.mark.parametrize("of", ["output", "input"])
def test_a_model_runs_with_coded_numbers_and_as_before_after_that(of: str) -> None:
    qparams, model = calibrated(of=of), network()
    with torch.no_grad():
        before = model(X)
        with qparams.fake_quantized(model) as same_model:
            assert same_model is model
            coded = model(X)
        assert torch.equal(coded, by_hand(qparams, of))
        assert not torch.equal(coded, before)
        assert torch.equal(model(X), before)
    with pytest.raises(RuntimeError, match="stop"), qparams.fake_quantized(model):
        raise RuntimeError("stop")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[None, Tensor, Tensor]:
        return None, x, x


class Named(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"x": x}


def test_of_tuples_the_first_tensor_is_coded() -> None:
    layer = calibrated()["2"]
    pair, named = Pair(), Named()
    one = QParams(
        {"": LayerQParams(layer.scale, layer.zero_point, "uint8", "(model)")}, {"of": "output"}
    )
    with one.fake_quantized(pair):
        _, first, second = pair(X)
    assert torch.equal(first, layer.fake_quantize(X))
    assert torch.equal(second, X)
    with one.fake_quantized(named), pytest.raises(FmstatsError, match="gives a dict"):
        named(X)


def test_rows_of_no_module_are_refused() -> None:
    qparams = calibrated()
    with pytest.raises(FmstatsError, match="'0' is no module"), qparams.fake_quantized(nn.ReLU()):
        pass
    twice = QParams({"a": qparams["2"], "b": qparams["2"]}, qparams.settings)
    model = network()
    with pytest.raises(FmstatsError, match="several rows of '2'"), twice.fake_quantized(model):
        pass
    assert not model[2]._forward_hooks
