"""Predict the time of a model's step from its leaf modules by a roofline; nothing is run.

Each leaf is a kernel: as long as its arithmetic or its traffic, whichever is longer, and a launch.
Functional operations (the additions of residual blocks, attention's products) have no module and
are left out, so steps come out too short and what hooks add too large. The host is taken to be
fast enough: see docs/performance.md.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import models
import torch
from torch import Tensor, nn

from fmstats.models.channel_dims import channel_rules
from fmstats.statistic.view import View, view_of
from hardware.gpus import ATTAINABLE, LAUNCH, Gpu

MODELS = ("ResNet-50", "ConvNeXt-T")
BATCH = 64
# Assumptions.
MATMUL_SHARE = 0.6  # of the peak of dense matrix products, which convolutions and Linear reach
TRAINING = 3  # forward passes' worth of arithmetic, traffic and launches: backward takes two
OPTIMIZER_TRIPS = 5  # of each float32 parameter to or from memory: SGD with momentum


@dataclass(frozen=True)
class Layer:
    """Describes a call of a leaf module.

    Attributes:
        name: of the module.
        view: its output as channels x positions.
        flops: of its matrix products, a multiply-add as two; 0 where it has none.
        elements: it reads and writes, parameters included.
        parameters: it has.
    """

    name: str
    view: View
    flops: float
    elements: int
    parameters: int


@functools.cache
def layers_of(model: str) -> tuple[Layer, ...]:
    """Return all calls of leaf modules in a forward pass over a batch of `BATCH`, in order."""
    with torch.device("meta"):
        network, example = models.MODELS[model]()
    network.eval()
    rules = channel_rules(network)
    found: list[Layer] = []

    def note(name: str, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.dim():
            parameters = sum(p.numel() for p in module.parameters())
            read = sum(x.numel() for x in inputs if isinstance(x, Tensor))
            view = view_of(output, rules[name].resolve(output.shape))
            elements = read + output.numel() + parameters
            found.append(Layer(name, view, flops_of(module, output), elements, parameters))

    for name, module in network.named_modules():
        if next(module.children(), None) is None:
            module.register_forward_hook(functools.partial(note, name))
    with torch.no_grad():
        network(torch.empty((BATCH, *example.shape[1:]), device="meta"))
    return tuple(found)


def flops_of(module: nn.Module, output: Tensor) -> float:
    """Return the FLOPs of a leaf's matrix products; depthwise convolutions are memory-bound."""
    if isinstance(module, nn.Linear):
        return 2.0 * output.numel() * module.in_features
    if isinstance(module, nn.Conv2d) and module.groups < module.in_channels:
        inputs = module.in_channels // module.groups * math.prod(module.kernel_size)
        return 2.0 * output.numel() * inputs
    return 0.0


def step_seconds(layers: Sequence[Layer], dtype: torch.dtype, step: str, gpu: Gpu) -> float:
    """Return the GPU's seconds for a step without hooks.

    Args:
        layers: of the model.
        dtype: of activations and weights; float32 stands for TF32 products.
        step: "inference" or "training".
        gpu: where it runs.
    """
    peak = (gpu.bf16_flops if dtype.itemsize == 2 else gpu.tf32_flops) * MATMUL_SHARE
    bandwidth = gpu.bandwidth * ATTAINABLE
    forward = sum(
        max(layer.flops / peak, layer.elements * dtype.itemsize / bandwidth) + LAUNCH
        for layer in layers
    )
    if step == "inference":
        return forward
    parameters = sum(layer.parameters for layer in {layer.name: layer for layer in layers}.values())
    return forward * TRAINING + parameters * 4 * OPTIMIZER_TRIPS / bandwidth
