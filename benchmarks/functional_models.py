"""ResNet-18 and MobileNetV2 with functions where models.py has modules that are no weights.

Activations, pooling, flattening and the sums of residual blocks are `F.relu`, `F.relu6`,
`F.max_pool2d`, `F.adaptive_avg_pool2d`, `torch.flatten` and `+`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmstats.demo.mobilenet import STAGES


class Normalised(nn.Module):
    """A convolution and its batch norm."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        padding = kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised feature map."""
        y: Tensor = self.norm(self.conv(x))
        return y


class BasicBlock(nn.Module):
    """A residual block of two 3x3 convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = Normalised(inputs, outputs, 3, stride)
        self.second = Normalised(outputs, outputs, 3)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = Normalised(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's input, or its projection, to what the convolutions give."""
        y = self.second(F.relu(self.first(x), inplace=True))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)), inplace=True)


class ResNet18(nn.Module):
    """He et al. 2015, 18 layers, without the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Normalised(3, 64, 7, 2)
        blocks: list[nn.Module] = []
        inputs = 64
        for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return 512 features of each image."""
        x = F.max_pool2d(F.relu(self.stem(x), inplace=True), 3, 2, 1)
        return torch.flatten(F.adaptive_avg_pool2d(self.blocks(x), 1), 1)


class InvertedResidual(nn.Module):
    """Expands, filters per channel, projects; the input is added where it has the same shape."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = Normalised(inputs, hidden) if expansion != 1 else None
        self.filter = Normalised(hidden, hidden, 3, stride, groups=hidden)
        self.project = Normalised(hidden, outputs)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map the channels and, with a stride of 2, halve the resolution."""
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.filter(y), inplace=True))
        out: Tensor = x + y if self.has_shortcut else y
        return out


class MobileNetV2(nn.Module):
    """The network of width 1.0, as `fmstats.demo.mobilenet` has it in modules."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = Normalised(3, 32, 3, 2)
        blocks, inputs = [], 32
        for expansion, outputs, repeats, first_stride in STAGES:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                blocks.append(InvertedResidual(inputs, outputs, stride, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = Normalised(inputs, 1280)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.blocks(F.relu6(self.stem(x), inplace=True))
        x = F.relu6(self.last(x), inplace=True)
        y: Tensor = self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return y
