"""The models that the tests of the analysis share, each with a size of its input."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.analysis.recorder import Recorder
from fmstats.analysis.records import UNKNOWN
from fmstats.demo.mobilenet import MobileNetV2

IMAGE = (1, 3, 224, 224)


def from_transformers(kind: str, head: str = "ForImageClassification", **config: Any) -> nn.Module:
    """A model of that library, by its configuration: nothing is downloaded."""
    transformers = importlib.import_module("transformers")
    settings = getattr(transformers, f"{kind}Config")(**config)
    model: nn.Module = getattr(transformers, f"{kind}{head}")(settings)
    return model.eval()


def resnet_50() -> nn.Module:
    return from_transformers(
        "ResNet",
        layer_type="bottleneck",
        depths=[3, 4, 6, 3],
        hidden_sizes=[256, 512, 1024, 2048],
        num_labels=1000,
    )


def vit_b16() -> nn.Module:
    return from_transformers("ViT", num_labels=1000)


def mobilenet_v2() -> nn.Module:
    return MobileNetV2().eval()


class DenseLayer(nn.Module):
    """BN-ReLU-Conv1x1-BN-ReLU-Conv3x3 (Huang et al. 2017, section 3): 32 channels are added."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)),
            nn.Conv2d(inputs, 4 * growth, 1, bias=False),
            *(nn.BatchNorm2d(4 * growth), nn.ReLU(inplace=True)),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], dim=1)


def densenet_121() -> nn.Module:
    """DenseNet-BC with growth 32 and compression 0.5, table 1 of the paper."""
    channels, growth = 64, 32
    layers: list[nn.Module] = [
        nn.Conv2d(3, channels, 7, 2, 3, bias=False),
        *(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)),
    ]
    for depth in (6, 12, 24, 16):
        block = nn.Sequential(*(DenseLayer(channels + i * growth, growth) for i in range(depth)))
        channels += depth * growth
        layers += [block, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        if depth != 16:
            layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            channels //= 2
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))
    return nn.Sequential(*layers, *head).eval()


def vgg_block() -> nn.Module:
    """The first two stages of VGG-16 (Simonyan and Zisserman 2015)."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 64), (64, 128)):
        for channels in (inputs, outputs):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers).eval()


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "ResNet-50": resnet_50,
    "MobileNetV2": mobilenet_v2,
    "DenseNet-121": densenet_121,
    "ViT-B/16": vit_b16,
}


@functools.cache
def made(name: str) -> nn.Module:
    """One of `MODELS`, shared by tests that leave it as it is."""
    if name in ("ResNet-50", "ViT-B/16"):
        pytest.importorskip("transformers", reason="needs transformers")
    return MODELS[name]()


@functools.cache
def analyzed(name: str) -> fmstats.Analysis:
    """Its analysis for one image."""
    return fmstats.analyze(made(name), input_size=IMAGE)


def recorded(function: Callable[..., object], *args: Any) -> Recorder:
    """What the analysis sees of one call of a function."""
    recorder = Recorder("model")
    with torch.no_grad(), recorder:
        function(*args)
    return recorder


def flops_of(function: Callable[..., object], *args: Any) -> int:
    """FLOPs of one call, all of whose operations are known."""
    recorder = recorded(function, *args)
    assert unknown_in(recorder) == []
    return recorder.flops


def unknown_in(recorder: Recorder) -> list[str]:
    """Operations that have no formula and are not known to be cheap."""
    return [name for name, kind in recorder.work["model"].uncounted if kind == UNKNOWN]
