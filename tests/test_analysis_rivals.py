"""Parameters and FLOPs of whole models against torchinfo, FlopCounterMode and fvcore.

Where one of these misses something, the difference is exactly what it is known to miss.
"""

from __future__ import annotations

import logging
import warnings

import analysis_models
import pytest
import torch
from analysis_models import IMAGE, MODELS, analyzed, made
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import fmstats

PARAMS = {
    "ResNet-50": 25_557_032,
    "MobileNetV2": 3_504_872,
    "DenseNet-121": 7_978_856,
    "ViT-B/16": 86_567_656,
}
MACS = {
    "ResNet-50": 4_089_184_256,
    "MobileNetV2": 300_774_272,
    "DenseNet-121": 2_834_161_664,
    "ViT-B/16": 17_563_828_224,
}
# Of ViT-B/16: in each of 12 layers two products of 197 x 197 attention, 768 channels in all heads.
ATTENTION = 12 * 2 * 197 * 197 * 768


def counted(model: nn.Module, *inputs: torch.Tensor) -> int:
    """MACs by torch's own counter, on a CPU."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    return counter.get_total_flops() // 2


def counted_by_fvcore(model: nn.Module, *inputs: torch.Tensor) -> dict[str, int]:
    """MACs by fvcore, by the kind of operation."""
    fvcore = pytest.importorskip("fvcore.nn", reason="needs fvcore")
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        counts = fvcore.FlopCountAnalysis(model, inputs)
        counts.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return {kind: int(n) for kind, n in counts.by_operator().items()}


@pytest.mark.parametrize("name", MODELS)
def test_totals_are_those_of_the_papers(name: str) -> None:
    totals = analyzed(name).totals
    assert (totals["params"], totals["macs"], totals["flops"]) == (
        *(PARAMS[name], MACS[name]),
        2 * MACS[name],
    )
    assert totals["param_bytes"] == 4 * PARAMS[name]


@pytest.mark.parametrize("name", MODELS)
def test_flop_counter_mode(name: str) -> None:
    missed = ATTENTION if name == "ViT-B/16" else 0  # by its fused attention for CPUs
    assert counted(made(name), torch.zeros(IMAGE)) == MACS[name] - missed


def test_flop_counter_mode_with_attention_written_out() -> None:
    """With products that it sees, torch's counter has the true figure of ViT-B/16 as well."""
    pytest.importorskip("transformers", reason="needs transformers")
    model = analysis_models.from_transformers("ViT", num_labels=1000, attn_implementation="eager")
    assert counted(model.to("meta"), torch.zeros(IMAGE, device="meta")) == MACS["ViT-B/16"]
    assert fmstats.analyze(model, input_size=IMAGE).totals["macs"] == MACS["ViT-B/16"]


def test_flop_counter_mode_on_the_fused_encoder() -> None:
    """In eval mode torch's encoder layer is one operation, of which its counter sees nothing."""
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    x = torch.zeros(2, 5, 16)
    assert counted(layer, x) == 0
    assert counted(layer.train(), x) == fmstats.analyze(layer.eval(), x).totals["macs"]


@pytest.mark.parametrize("name", MODELS)
def test_torchinfo(name: str) -> None:
    torchinfo = pytest.importorskip("torchinfo", reason="needs torchinfo")
    model = made(name)
    summary = torchinfo.summary(model, input_size=IMAGE, verbose=0)
    assert summary.total_params == PARAMS[name]
    assert summary.total_mult_adds == expected_of_torchinfo(model, analyzed(name))


def expected_of_torchinfo(model: nn.Module, found: fmstats.Analysis) -> int:
    """Leaves alone, biases and norms as well: parameters x positions, without space x samples."""
    total = 0
    for row in found.rows:
        module = model.get_submodule("" if row.name == "(model)" else row.name)
        if next(module.children(), None) is not None or row.output_shape is None:
            continue
        shape = row.output_shape
        is_conv = isinstance(module, nn.Conv2d)
        positions = shape[0] * shape[2] * shape[3] if is_conv else shape[0]
        total += row.params * positions
    return total


@pytest.mark.parametrize("name", MODELS)
def test_fvcore(name: str) -> None:
    by_kind = counted_by_fvcore(made(name), torch.zeros(IMAGE))
    products = sum(by_kind.get(kind, 0) for kind in ("conv", "linear"))
    missed = ATTENTION if name == "ViT-B/16" else 0  # scaled_dot_product_attention
    assert products == MACS[name] - missed
    # What it counts besides are norms and pooling, at so much an element.
    assert by_kind.keys() <= {"conv", "linear", "batch_norm", "layer_norm", "adaptive_avg_pool2d"}
