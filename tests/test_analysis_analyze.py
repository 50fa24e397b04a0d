"""`analyze` as a whole: options, takeaways, models too large for this machine."""

from __future__ import annotations

import re
import resource
import time

import analysis_models
import pytest
import torch
from torch import nn

import fmstats
from fmstats.errors import FmstatsError


def test_it_is_public() -> None:
    found = fmstats.analyze(nn.Linear(4, 2), input_size=(3, 4))
    assert isinstance(found, fmstats.Analysis)
    assert {"analyze", "Analysis"} <= set(fmstats.__all__)
    assert (found.model, len(found)) == ("Linear", 1)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (torch.relu, {}, "analyze() takes a torch.nn.Module, got builtin_function_or_method"),
        (nn.ReLU(), {"device": "gpu9"}, "device='gpu9' is not known: give 'meta', 'cpu', ..."),
        (nn.ReLU(), {"gpu": "K80"}, "gpu='K80' is not known; closest: "),
    ],
)
def test_mistakes(model: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(FmstatsError, match=re.escape(message)):
        fmstats.analyze(model, input_size=(3, 4), **options)


def test_totals_by_hand() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True))
    model[0].bias.requires_grad_(False)
    totals = fmstats.analyze(model.eval(), input_size=(3, 8)).totals
    assert totals == {
        "params": 44,
        "trainable_params": 40,
        "param_bytes": 176,
        "buffer_bytes": 4 * 4 + 4 * 4 + 8,
        "flops": 2 * 3 * 32,
        "macs": 3 * 32,
        "activation_elements": 36,
        "activation_bytes": 144,
        "peak_activation_bytes": 96,
        # The input; what the norm gets, and its mean and deviation; what the ReLU gives.
        "saved_for_backward_bytes": 96 + 48 + 2 * 16 + 48,
        "traffic_bytes": (96 + 144 + 48) + (48 + 4 * 16 + 48) + (48 + 48),
        "input_bytes": 96,
        "batch": 3,
    }


def test_mixed_dtypes_have_their_own_bytes() -> None:
    model = nn.Sequential(nn.Linear(4, 4).half(), nn.Linear(4, 4, dtype=torch.half))
    model.register_buffer("table", torch.zeros(5, dtype=torch.int8))
    totals = fmstats.analyze(model, input_size=(3, 4)).totals
    assert (totals["param_bytes"], totals["buffer_bytes"], totals["activation_bytes"]) == (
        80,
        5,
        48,
    )


class Scaled(nn.Module):
    def forward(self, scale: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return scale * x + y


def test_activations_outweigh_parameters_from_a_batch_on() -> None:
    model = nn.Sequential(nn.Linear(10, 10, bias=False), nn.ReLU(), nn.Linear(10, 1, bias=False))
    one = fmstats.analyze(model, input_size=(1, 10), batch_dim=0)
    # Kept for each sample: the input and the ReLU's output, 80 bytes. 440 bytes of parameters.
    assert one.totals["saved_for_backward_bytes"] == 80
    assert one.outweigh_batch() == 6
    many = fmstats.analyze(model, input_size=(7, 10), batch_dim=0)
    assert many.outweigh_batch() == 6
    for batch in (5, 6):
        totals = fmstats.analyze(model, input_size=(batch, 10)).totals
        assert (totals["saved_for_backward_bytes"] > totals["param_bytes"]) == (batch == 6)
    assert "activations outweigh the parameters from a batch of 6 on" in one.summary()
    assert fmstats.analyze(nn.ReLU(), input_size=(1, 10), batch_dim=0).outweigh_batch() is None
    # How many samples these are only the caller knows.
    assert fmstats.analyze(model, input_size=(7, 10)).outweigh_batch() is None


BATCHES = {
    "time first": (lambda: nn.GRU(10, 20), (torch.zeros(50, 3, 10),), 3),
    "batch first": (lambda: nn.LSTM(10, 20, batch_first=True), (torch.zeros(50, 3, 10),), 50),
    "a sequence": (lambda: nn.GRU(10, 20), (torch.zeros(50, 10),), 1),
    "attention": (lambda: nn.MultiheadAttention(8, 2), (torch.zeros(7, 3, 8),) * 3, 3),
    "a transformer": (lambda: nn.Transformer(8, 2, 1, 1, 8), (torch.zeros(7, 3, 8),) * 2, 3),
    "behind a projection": (
        lambda: nn.Sequential(nn.Linear(6, 10), nn.GRU(10, 20)),
        (torch.zeros(50, 3, 6),),
        3,
    ),
    "images": (lambda: nn.Conv2d(3, 4, 3), (torch.zeros(5, 3, 8, 8),), 5),
    "an image": (lambda: nn.Conv2d(3, 4, 3), (torch.zeros(3, 8, 8),), 1),
    "a temperature first": (Scaled, (torch.ones(1), torch.zeros(4, 8), torch.zeros(4, 8)), 4),
    "entries that differ": (Scaled, (torch.ones(2, 8), torch.zeros(4, 1, 8), torch.zeros(8)), None),
    "a lone matrix": (lambda: nn.Linear(8, 4), (torch.zeros(6, 8),), None),
    "a number": (nn.ReLU, (torch.zeros(()),), None),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")  # of a transformer, time first
@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("name", BATCHES)
def test_the_batch_is_what_structure_tells(name: str, device: str) -> None:
    make, inputs, batch = BATCHES[name]
    found = fmstats.analyze(make(), *inputs, device=device)
    assert found.totals["batch"] == batch
    assert f"for a batch of {batch or 'unknown size'}" in found.summary()
    if inputs[0].dim() > 1:
        told = fmstats.analyze(make(), *inputs, batch_dim=-1).totals["batch"]
        assert told == inputs[0].shape[-1]


def test_a_batch_dim_is_a_number() -> None:
    with pytest.raises(FmstatsError, match=r"batch_dim='x': give the number of a dim, or None"):
        fmstats.analyze(nn.ReLU(), torch.zeros(2), batch_dim="x")


def test_largest_layers() -> None:
    found = fmstats.analyze(analysis_models.vgg_block(), input_size=(1, 3, 64, 64))
    assert [row.name for row in found.largest(3)] == ["0", "1", "2"]
    assert [row.name for row in found.largest(2, by="params")] == ["7", "5"]
    assert [row.name for row in found.largest(1, by="flops")] == ["2"]


def llama_70b(layers: int) -> nn.Module:
    """Llama 2 70B (Touvron et al. 2023) with so many of its 80 layers, on the meta device."""
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = transformers.LlamaConfig(
        **{"hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64},
        **{"num_hidden_layers": layers, "num_key_value_heads": 8, "vocab_size": 32000},
    )
    with torch.device("meta"):
        return transformers.LlamaForCausalLM(config).eval()


def test_seventy_billion_parameters_on_the_meta_device() -> None:
    model = llama_70b(80)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    found = fmstats.analyze(model, input_size=(1, 128), dtype=torch.long)
    seconds = time.process_time() - started  # others may keep the machine busy
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    width, inner, tokens = 8192, 28672, 128
    layer = 2 * width * width + 2 * width * 1024 + 3 * width * inner
    params = 80 * (layer + 2 * width) + 2 * 32000 * width + width
    assert found.totals["params"] == params == 68_976_648_192
    attention = 80 * 2 * tokens * tokens * width
    assert found.totals["macs"] == tokens * (80 * layer + 32000 * width) + attention
    assert found.unknown == ()
    assert grown < 500_000  # KiB
    assert seconds < 60
    assert all(p.device.type == "meta" for p in model.parameters())
    assert "69G parameters (257 GiB)" in found.summary()
