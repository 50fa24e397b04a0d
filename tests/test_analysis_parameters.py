"""Weights, layer by layer: parameters, and those packed for the kernels of quantized layers."""

from __future__ import annotations

import pytest
import torch
from quantized_models import dynamic, needs_quantization, quiet, static
from torch import nn

import fmstats
from fmstats.analysis.packed import list_constants
from fmstats.analysis.parameters import all_weights, bytes_of, own_weights

pytestmark = [quiet, needs_quantization]

# Layers and their inputs: elements of weights and biases, multiplications.
DYNAMIC = {
    "Linear": (nn.Linear(4, 5), (3, 4), 25, 60),
    "LSTM": (nn.LSTM(4, 5), (3, 2, 4), 20 * (4 + 5) + 40, 6 * 20 * 9),
    "LSTM, two layers": (
        *(nn.LSTM(4, 5, 2), (3, 2, 4)),
        *(20 * (4 + 5) + 20 * 10 + 80, 6 * 20 * (9 + 10)),
    ),
    "LSTM, both ways": (
        *(nn.LSTM(4, 5, bidirectional=True), (3, 2, 4)),
        *(2 * (20 * 9 + 40), 2 * 6 * 20 * 9),
    ),
    "GRU": (nn.GRU(4, 5), (3, 2, 4), 15 * (4 + 5) + 30, 6 * 15 * 9),
    "LSTMCell": (nn.LSTMCell(4, 5), (3, 4), 20 * (4 + 5) + 40, 3 * 20 * 9),
    "GRUCell": (nn.GRUCell(4, 5), (3, 4), 15 * (4 + 5) + 30, 3 * 15 * 9),
    "RNNCell": (nn.RNNCell(4, 5), (3, 4), 5 * (4 + 5) + 10, 3 * 5 * 9),
}


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("name", DYNAMIC)
def test_dynamic_quantization(name: str, device: str) -> None:
    layer, size, params, macs = DYNAMIC[name]
    assert sum(p.numel() for p in layer.parameters()) == params
    found = fmstats.analyze(dynamic(layer), input_size=size, device=device)
    assert [(row.name, row.params, row.macs) for row in found.rows] == [("0", params, macs)]
    assert (found.totals["params"], found.totals["trainable_params"]) == (params, 0)
    assert found.unknown == ()
    biases = {"Linear": 5}.get(name, params - macs // (3 if name.endswith("Cell") else 6))
    assert found.totals["param_bytes"] == params + 3 * biases  # weights of 1 byte, biases of 4


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("layer", [nn.Linear(4, 5), nn.LSTM(4, 5)])
def test_dynamic_quantization_to_float16(layer: nn.Module, device: str) -> None:
    size = (3, 4) if isinstance(layer, nn.Linear) else (3, 2, 4)
    plain = fmstats.analyze(nn.Sequential(layer), input_size=size)
    half = fmstats.analyze(dynamic(layer, torch.float16), input_size=size, device=device)
    for total in ("params", "macs"):
        assert half.totals[total] == plain.totals[total]


def test_static_quantization() -> None:
    found = fmstats.analyze(static(), input_size=(2, 3, 8, 8), device="cpu")
    rows = {row.name: (row.type, row.params, row.macs) for row in found.rows}
    assert rows == {
        "0": ("Quantize", 0, 0),
        "1": ("ConvReLU2d", 4 * 27 + 4, 2 * 36 * 4 * 27),
        "2": ("Identity", 0, 0),
        "3": ("Conv2d", 6 * 18 + 6, 2 * 4 * 6 * 18),
        "4": ("Flatten", 0, 0),
        "5": ("Linear", 24 * 5 + 5, 2 * 24 * 5),
        "6": ("DeQuantize", 0, 0),
    }
    assert found.unknown == ()
    assert found.totals["params"] == 351
    assert found.totals["param_bytes"] == 336 + 4 * 15


def test_static_quantization_needs_numbers() -> None:
    """Its scale and zero point are read from buffers."""
    with pytest.raises(fmstats.FmstatsError, match=r"layer '0'.*analyze\(..., device='cpu'\)"):
        fmstats.analyze(static(), input_size=(2, 3, 8, 8))


def test_quantized_embeddings() -> None:
    from torch.ao.nn import quantized

    for layer in (quantized.Embedding(10, 4), quantized.EmbeddingBag(10, 4)):
        assert [(w.elements, w.trainable) for w in all_weights(layer)] == [(40, False)]
        found = fmstats.analyze(layer, torch.zeros(1, 3, dtype=torch.int32), device="cpu")
        assert [(row.params, row.flops) for row in found.rows] == [(40, 0)]
        assert found.unknown == ()


@quiet
def test_a_quantized_layer_is_tracked_as_one() -> None:
    model = dynamic(nn.Linear(4, 5))
    with fmstats.track(model) as tracker:
        model(torch.rand(3, 4))
    assert {name: stats.count.tolist() for name, stats in tracker.stats().items()} == {"0": [3] * 5}


def test_scripts_hold_their_parameters_as_a_whole() -> None:
    layer = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    script = torch.jit.script(layer)
    for whole in (script, torch.jit.trace(layer, torch.rand(3, 4)), torch.jit.freeze(script)):
        own = own_weights(whole)
        assert sum(w.elements for w in own.values()) == 37
        assert sum(w.bytes for w in all_weights(whole)) == 4 * 37


class Held(nn.Module):
    """With constants that are no weights: a number, and whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 5)
        self.register_buffer("scale", torch.tensor(0.5))
        self.register_buffer("places", torch.tensor([4, 2, 0, 1, 3]))
        self.register_buffer("one", torch.tensor(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.layer(x) * self.scale)[:, self.places] + self.one


def test_of_a_frozen_script_floating_tensors_are_weights() -> None:
    frozen = torch.jit.freeze(torch.jit.script(Held().eval()))
    assert sorted(t.numel() for t in list_constants(frozen)) == [5, 20]
    assert [w.elements for w in all_weights(frozen)] == [25]


def test_what_is_shared_is_counted_once() -> None:
    shared = nn.Linear(4, 4)
    twice = nn.Sequential(shared, nn.ReLU(), nn.Sequential(shared))
    assert [w.elements for w in all_weights(twice)] == [16, 4]
    quantized = dynamic(nn.Linear(4, 4))
    assert [w.elements for w in all_weights(nn.Sequential(quantized, quantized))] == [20]


def test_trainable_and_wrapped() -> None:
    layer = nn.Linear(4, 4)
    layer.bias.requires_grad_(False)
    assert [(w.elements, w.bytes, w.trainable) for w in all_weights(nn.DataParallel(layer))] == [
        (16, 64, True),
        (4, 16, False),
    ]

    class Wrapper(nn.Module):
        """As FSDP does, it holds a parameter beside the module inside."""

        def __init__(self) -> None:
            super().__init__()
            self._fsdp_wrapped_module, self.flat = layer, nn.Parameter(torch.ones(7))

    Wrapper.__name__ = "FullyShardedDataParallel"
    assert [w.elements for w in all_weights(Wrapper())] == [16, 4, 7]


@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta state")
def test_bytes_of_sparse_tensors() -> None:
    assert bytes_of([torch.eye(4), torch.eye(4).to_sparse()]) == 64 + 4 * 4 + 2 * 4 * 8
