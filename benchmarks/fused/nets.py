"""Build the models whose generated kernels are looked at, in a few lines each, and their inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class ResidualBlock(nn.Module):
    """The block of He et al. 2016: basic if `narrow` is 0, else a bottleneck."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, narrow: int = 0) -> None:
        super().__init__()
        steps = [(inputs, outputs, 3, stride), (outputs, outputs, 3, 1)]
        if narrow:
            steps = [(inputs, narrow, 1, 1), (narrow, narrow, 3, stride), (narrow, outputs, 1, 1)]
        self.convs = nn.ModuleList(_conv(*step) for step in steps)
        self.norms = nn.ModuleList(nn.BatchNorm2d(step[1]) for step in steps)
        self.relus = nn.ModuleList(nn.ReLU(inplace=True) for _ in steps)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut.extend([_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)])

    def forward(self, x: Tensor) -> Tensor:
        y = x
        last = len(self.convs) - 1
        for i, (conv, norm, relu) in enumerate(zip(self.convs, self.norms, self.relus)):  # noqa: B905
            y = norm(conv(y))
            y = relu(y + self.shortcut(x)) if i == last else relu(y)
        return y


class ResNet(nn.Module):
    """ResNet of basic blocks or of bottlenecks."""

    def __init__(self, depths: tuple[int, ...], bottleneck: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _conv(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        blocks, inputs = [], 64
        for stage, depth in enumerate(depths):
            width = 64 << stage
            outputs = 4 * width if bottleneck else width
            for i in range(depth):
                stride = 2 if stage and not i else 1
                blocks.append(ResidualBlock(inputs, outputs, stride, width if bottleneck else 0))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(inputs, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.blocks(self.stem(x)))
        return self.fc(x.flatten(1))


class TransformerBlock(nn.Module):
    """A block as in ViT-B: LayerNorm, attention, GELU."""

    def __init__(self, width: int = 768, heads: int = 12) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.act, self.down = (
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, width)
        x = x + self.proj(y)
        return x + self.down(self.act(self.up(self.norm2(x))))


class LlamaBlock(nn.Module):
    """A block as in Llama: RMSNorm, attention of fewer keys than queries, SwiGLU."""

    def __init__(self, width: int = 2048, heads: int = 32, groups: int = 8, up: int = 8192) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.head = width // heads
        self.q, self.o = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(width, groups * self.head, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(width, up, bias=False) for _ in range(2))
        self.act, self.down = nn.SiLU(), nn.Linear(up, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        q, k, v = (
            f(y).unflatten(-1, (-1, self.head)).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        return x + self.down(self.act(self.gate(y)) * self.up(y))


class ConvNextBlock(nn.Module):
    """A block as in ConvNeXt-T: depthwise convolution, LayerNorm over channels, GELU."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm, self.up = nn.LayerNorm(width), nn.Linear(width, 4 * width)
        self.act, self.down = nn.GELU(), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(self.act(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


def _one_block() -> nn.Module:
    return nn.Sequential(_conv(64, 64), nn.BatchNorm2d(64), nn.ReLU(), _conv(64, 64))


@dataclass(frozen=True)
class Net:
    """Describes a model and the shape of its batch."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]


NETS: Mapping[str, Net] = {
    "conv block": Net(_one_block, (64, 64, 56, 56)),
    "ResNet-18": Net(lambda: ResNet((2, 2, 2, 2), False), (64, 3, 224, 224)),
    "ResNet-50": Net(lambda: ResNet((3, 4, 6, 3), True), (64, 3, 224, 224)),
    "2 transformer blocks": Net(
        lambda: nn.Sequential(TransformerBlock(), TransformerBlock()), (32, 196, 768)
    ),
    "2 ConvNeXt blocks": Net(
        lambda: nn.Sequential(ConvNextBlock(), ConvNextBlock()), (64, 96, 56, 56)
    ),
    "Llama block": Net(LlamaBlock, (4, 1024, 2048)),
}
