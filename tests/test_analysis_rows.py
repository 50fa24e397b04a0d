"""Rows of the layer table: each thing once, in the order of execution, and all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import analysis_models
import pytest
import torch
from test_analysis_formulas import Doing
from torch import Tensor, nn

import fmstats

# name, output, params, MACs, activation bytes, field, stride, written down by hand.
VGG = [
    ("0", (1, 64, 224, 224), 1_792, 86_704_128, 12_845_056, 3, 1),
    ("1", (1, 64, 224, 224), 0, 0, 12_845_056, 3, 1),
    ("2", (1, 64, 224, 224), 36_928, 1_849_688_064, 12_845_056, 5, 1),
    ("3", (1, 64, 224, 224), 0, 0, 12_845_056, 5, 1),
    ("4", (1, 64, 112, 112), 0, 0, 3_211_264, 6, 2),
    ("5", (1, 128, 112, 112), 73_856, 924_844_032, 6_422_528, 10, 2),
    ("6", (1, 128, 112, 112), 0, 0, 6_422_528, 10, 2),
    ("7", (1, 128, 112, 112), 147_584, 1_849_688_064, 6_422_528, 14, 2),
    ("8", (1, 128, 112, 112), 0, 0, 6_422_528, 14, 2),
    ("9", (1, 128, 56, 56), 0, 0, 1_605_632, 16, 4),
]


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_vgg_row_by_row(device: str) -> None:
    model = analysis_models.vgg_block()
    found = fmstats.analyze(model, input_size=(1, 3, 224, 224), device=device)
    rows = [
        (r.name, r.output_shape, r.params, r.macs, r.activation_bytes, r.receptive_field, r.stride)
        for r in found.rows
    ]
    assert rows == VGG
    assert all(row.flops == 2 * row.macs for row in found.rows)
    assert [row.type for row in found.rows] == [type(layer).__name__ for layer in model]
    assert found["7"].flops_share == pytest.approx(1_849_688_064 / 4_710_924_288)
    assert found["7"].params_share == pytest.approx(147_584 / 260_160)
    assert found["9"].activations_share == pytest.approx(1_605_632 / 81_887_232)


LAW_MODELS = {
    **{name: (make, (2, 3, 64, 64)) for name, make in analysis_models.MODELS.items()},
    "encoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2),
        (2, 5, 16),
    ),
    "LSTM": (lambda: nn.LSTM(8, 16, 2), (5, 3, 8)),
}


@pytest.mark.parametrize("name", LAW_MODELS)
def test_rows_add_up_to_the_totals(name: str) -> None:
    make, size = LAW_MODELS[name]
    if name in analysis_models.MODELS:
        model, found = analysis_models.made(name), analysis_models.analyzed(name)
    else:
        model = make()
        found = fmstats.analyze(model, input_size=size)
    for field in ("params", "flops", "macs", "activation_elements", "activation_bytes"):
        assert sum(row[field] for row in found.rows) == found.totals[field], field
    assert sum(row.traffic_bytes for row in found.rows) == found.totals["traffic_bytes"]
    assert found.totals["params"] == sum(p.numel() for p in model.parameters())
    for share in ("params_share", "flops_share", "activations_share"):
        assert sum(row[share] for row in found.rows) == pytest.approx(1)
    if name != "LSTM":  # which has more within
        assert found.totals["peak_activation_bytes"] <= found.totals["activation_bytes"]
    names = [row.name for row in found.rows]
    assert len(set(names)) == len(names)


def test_real_tensors_and_fake_ones_agree() -> None:
    for make, size in ((analysis_models.mobilenet_v2, (2, 3, 32, 32)), LAW_MODELS["encoder"]):
        model = make()
        fake = fmstats.analyze(model, input_size=size).to_dict()
        assert fake == fmstats.analyze(model, input_size=size, device="cpu").to_dict()


def test_everything_grows_with_the_batch_but_parameters() -> None:
    model = analysis_models.vgg_block()
    one, four = (fmstats.analyze(model, input_size=(n, 3, 64, 64)) for n in (1, 4))
    for field in ("flops", "activation_elements", "activation_bytes", "peak_activation_bytes"):
        assert four.totals[field] == 4 * one.totals[field], field
    assert four.totals["params"] == one.totals["params"]
    assert four["9"].receptive_field == one["9"].receptive_field == 16


def test_a_module_called_twice_has_one_row() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.act = nn.Linear(4, 4), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = self.act(self.layer(x))
            return x

    found = fmstats.analyze(Again(), input_size=(2, 4))
    assert [(r.name, r.calls, r.params, r.macs, r.activation_elements) for r in found.rows] == [
        ("layer", 3, 20, 3 * 32, 3 * 8),
        ("act", 3, 0, 0, 3 * 8),
    ]
    assert found.totals["params"] == 20


def test_one_module_under_two_names() -> None:
    shared = nn.Linear(4, 4)
    found = fmstats.analyze(nn.Sequential(shared, nn.ReLU(), shared), input_size=(2, 4))
    assert [(r.name, r.calls, r.params, r.macs) for r in found.rows] == [
        ("0", 2, 20, 64),
        ("1", 1, 0, 0),
    ]


def test_tied_parameters_count_once_and_work_twice() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
            self.head.weight = self.words.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.words(ids))

    found = fmstats.analyze(Tied(), input_size=(2, 3), dtype=torch.long)
    assert found.totals["params"] == 40
    assert [(r.name, r.params, r.macs) for r in found.rows] == [("words", 40, 0), ("head", 0, 240)]
    assert found.totals["param_bytes"] == 160


def test_a_layer_that_never_runs() -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused, self.used, self.silent = nn.Linear(9, 9), nn.Linear(4, 4), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    found = fmstats.analyze(Partly(), input_size=(2, 4))
    assert [(r.name, r.output_shape, r.params, r.calls) for r in found.rows] == [
        ("used", (2, 4), 20, 1),
        ("unused", None, 90, 0),
    ]
    assert found.totals["params"] == 110
    assert "unused  Linear  not run" in found.table()


def test_functional_work_is_its_blocks() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)
            self.scale = nn.Parameter(torch.ones(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.relu(self.inner(x) @ self.scale) + x

    found = fmstats.analyze(nn.Sequential(Block(), nn.Linear(4, 1)), input_size=(2, 4))
    assert [(r.name, r.type, r.params, r.macs, r.activation_elements) for r in found.rows] == [
        ("0.inner", "Linear", 20, 32, 8),
        ("0", "Block", 16, 32, 3 * 8),  # the product, the ReLU, the sum
        ("1", "Linear", 5, 8, 2),
    ]


def test_rows_are_in_the_order_of_execution() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(4, 1), nn.Linear(2, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x))

    rows = fmstats.analyze(Backwards(), input_size=(3, 2)).rows
    assert [row.name for row in rows] == ["first", "last"]


class Pair(NamedTuple):
    a: Tensor
    b: Tensor


@dataclass
class Record:
    a: Tensor
    b: int


OUTPUTS = {
    "tuple": (lambda x: (x, x + 1), (2, 4), 16),
    "list": (lambda x: [x, x + 1], (2, 4), 16),
    "dict": (lambda x: {"a": x, "b": (x + 1, 3)}, (2, 4), 16),
    "named tuple": (lambda x: Pair(x, x + 1), (2, 4), 16),
    "dataclass": (lambda x: Record(x, 3), (2, 4), 8),
    "the same twice": (lambda x: (x, x), (2, 4), 8),
    "ids first": (lambda x: (x.argmax(-1), x), (2, 4), 8),
    "ids alone": (lambda x: x.argmax(-1), (2,), 0),
    "scalar": (lambda x: x.sum(), (), 1),
    "a number": (lambda x: 3, None, 0),
    "none": (lambda x: None, None, 0),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs(name: str) -> None:
    function, shape, elements = OUTPUTS[name]
    net = nn.Sequential(nn.Linear(4, 4), Doing(function))
    found = fmstats.analyze(net, input_size=(2, 4))
    row = found["1"]
    assert (row.output_shape, row.activation_elements, row.calls) == (shape, elements, 1)
    assert found.totals["flops"] == 64


def test_outputs_of_transformers() -> None:
    pytest.importorskip("transformers", reason="needs transformers")
    model = analysis_models.from_transformers(
        "Bert",
        "Model",
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"intermediate_size": 64, "vocab_size": 100},
    )
    ids = {"input_ids": (2, 7), "attention_mask": (2, 7)}
    found = fmstats.analyze(model, input_size=ids, dtype=torch.long)
    assert found.parts["(model)"].first is not None
    assert found.parts["(model)"].first.shape == (2, 7, 32)
    layer = 14 * (4 * 32 * 32 + 2 * 32 * 64) + 2 * 2 * 7 * 7 * 32
    assert found.totals["macs"] == 2 * layer + 2 * 32 * 32  # the pooler sees the first token
    assert found.unknown == ()


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_parametrizations(norm: str) -> None:
    layer = getattr(nn.utils.parametrizations, norm)(nn.Conv2d(3, 4, 3))
    found = fmstats.analyze(nn.Sequential(layer, nn.ReLU()).eval(), input_size=(1, 3, 8, 8))
    assert found.totals["params"] == sum(p.numel() for p in layer.parameters())
    assert sum(row.params for row in found.rows) == found.totals["params"]
    # The convolution; one product with the weight gives its norm.
    extra = 4 * 27 + 4 if norm == "spectral_norm" else 0
    assert found.totals["macs"] == 36 * 4 * 27 + extra
    assert (found["0"].output_shape, found["0"].receptive_field) == ((1, 4, 6, 6), 3)


def test_rows_are_mappings_and_tell_what_they_have() -> None:
    row = fmstats.analyze(nn.Linear(4, 4), input_size=(2, 4)).rows[0]
    assert row["flops"] == row.flops
    assert dict(row)["name"] == "(model)"
    assert len(dict(row)) == len(row)
    with pytest.raises(KeyError, match="a layer has no 'colour'; it has name, type"):
        row["colour"]
