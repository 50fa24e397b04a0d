"""Quantized models of torch's eager mode, and the kernels that this machine has for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

ENGINES = [e for e in torch.backends.quantized.supported_engines if e != "none"]
needs_quantization = pytest.mark.skipif(not ENGINES, reason="needs kernels for quantized layers")
# torch moves its eager quantization to another package, and says so.
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def dynamic(layer: nn.Module, dtype: torch.dtype = torch.qint8) -> nn.Module:
    """A model of one layer, of which weights are quantized, and activations as they come."""
    from torch.ao.quantization import quantize_dynamic

    kinds = {nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell}
    return quantize_dynamic(nn.Sequential(layer), kinds, dtype=dtype)


def static() -> nn.Module:
    """Two convolutions, one with its ReLU, and a Linear, between a quantizer and its inverse."""
    from torch.ao import quantization

    model = nn.Sequential(
        quantization.QuantStub(),
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, groups=2, stride=2),
        nn.Flatten(),
        nn.Linear(24, 5),
        quantization.DeQuantStub(),
    ).eval()
    # Kernels that do not sum in 16 bits, for which calibration would warn.
    model.qconfig = quantization.get_default_qconfig(ENGINES[-1])
    fused = quantization.fuse_modules(model, [["1", "2"]])
    prepared = quantization.prepare(fused)
    prepared(torch.rand(2, 3, 8, 8))
    return quantization.convert(prepared)
