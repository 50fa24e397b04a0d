"""Models of torchvision and others that read images: the operations of their forward."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from channel_table import LAST, ONE, Entry, Net, given
from compat_models import Bottleneck, Permute, SharedActivation, SqueezeExcitation
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class CNBlock(nn.Module):
    """Of torchvision's ConvNeXt."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(dim, dim, 7, padding=3, groups=dim), Permute([0, 2, 3, 1]),
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim),
            Permute([0, 3, 1, 2]),
        )  # fmt: skip
        self.layer_scale = nn.Parameter(torch.ones(dim, 1, 1))
        self.stochastic_depth = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.stochastic_depth(self.layer_scale * self.block(x))


def convnext() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), LayerNorm2d(8), CNBlock(8), nn.AdaptiveAvgPool2d(1),
        LayerNorm2d(8), nn.Flatten(1), nn.Linear(8, 5),
    )  # fmt: skip


class ShiftedWindowAttention(nn.Module):
    """Of torchvision's Swin: windows of 4 x 4, shifted by 2, two heads."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.table = nn.Parameter(torch.randn(49, 2))
        self.softmax = nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        x = torch.roll(F.pad(x, (0, 0, 0, 0, 0, 0)), shifts=(-2, -2), dims=(1, 2))
        n = (h // 4) * (w // 4)
        x = x.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b * n, 16, c)
        qkv = F.linear(x, self.qkv.weight, self.qkv.bias)
        qkv = qkv.reshape(x.size(0), 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0] * (c // 2) ** -0.5, qkv[1], qkv[2]
        places = torch.arange(256) % 49
        bias = self.table[places].view(16, 16, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        attn = q.matmul(k.transpose(-2, -1)) + bias
        mask = x.new_zeros(n, 16, 16)
        attn = attn.view(b, n, 2, 16, 16) + mask.unsqueeze(1).unsqueeze(0)
        attn = F.dropout(self.softmax(attn.view(-1, 2, 16, 16)), 0.0)
        x = self.proj(attn.matmul(v).transpose(1, 2).reshape(x.size(0), 16, c))
        x = x.view(b, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return torch.roll(x, shifts=(2, 2), dims=(1, 2))[:, :h, :w, :].contiguous()


class PatchMerging(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction, self.norm = nn.Linear(4 * dim, 2 * dim), nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, x.size(-2) % 2, 0, x.size(-3) % 2))
        parts = [x[..., i::2, j::2, :] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1)))


def swin() -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.attn = nn.LayerNorm(8), ShiftedWindowAttention(8)
            self.stochastic_depth, self.norm2 = nn.Identity(), nn.LayerNorm(8)
            self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8), nn.Dropout())

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.stochastic_depth(self.attn(self.norm1(x)))
            return x + self.stochastic_depth(self.mlp(self.norm2(x)))

    return nn.Sequential(
        nn.Conv2d(3, 8, 2, 2), Permute([0, 2, 3, 1]), nn.LayerNorm(8), Block(), PatchMerging(8),
        nn.LayerNorm(16), Permute([0, 3, 1, 2]), nn.AdaptiveAvgPool2d(1), nn.Flatten(1),
        nn.Linear(16, 5),
    )  # fmt: skip


class DenseLayer(nn.Module):
    """Of torchvision's DenseNet, which keeps a list of feature maps."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)
        self.conv1, self.norm2 = nn.Conv2d(inputs, 8, 1), nn.BatchNorm2d(8)
        self.relu2, self.conv2 = nn.ReLU(inplace=True), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = self.conv1(self.relu1(self.norm1(torch.cat(maps, 1))))
        return F.dropout(self.conv2(self.relu2(self.norm2(x))), 0.1, self.training)


def densenet(m: Net, x: Tensor) -> Tensor:
    maps = [m.stem(x)]
    for layer in (m.layer1, m.layer2):
        maps.append(layer(maps))
    x = F.relu(m.norm5(m.transition(torch.cat(maps, 1))), inplace=True)
    return m.classifier(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


def googlenet(m: Net, x: Tensor) -> Tensor:
    """An Inception block with its auxiliary head."""
    x = m.maxpool(m.conv1(x))
    branches = [m.branch1(x), m.branch3(m.branch2(x)), m.branch4(x)]
    x = m.drop(torch.flatten(m.avgpool(torch.cat(branches, 1)), 1))
    return m.fc(x)


class ShuffleUnit(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch2 = nn.Sequential(
            nn.Conv2d(half, half, 1), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, 1, 1, groups=half), nn.BatchNorm2d(half),
        )  # fmt: skip
        self.after = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        x = torch.cat((first, self.branch2(second)), dim=1)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w)
        return self.after(torch.transpose(x, 1, 2).contiguous().view(n, c, h, w))


def mnasnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        Net(lambda m, x: m.layers(x) + x, layers=nn.Sequential(
            nn.Conv2d(8, 24, 1), nn.BatchNorm2d(24), nn.ReLU(inplace=True),
            nn.Conv2d(24, 24, 5, padding=2, groups=24), nn.BatchNorm2d(24), nn.ReLU(inplace=True),
            nn.Conv2d(24, 8, 1), nn.BatchNorm2d(8),
        )),
        Net(lambda m, x: m.out(x.mean([2, 3])), out=nn.Sequential(nn.Dropout(), nn.Linear(8, 5))),
    )  # fmt: skip


def non_local(m: Net, x: Tensor) -> Tensor:
    """Self-attention over the places of a map, of one head, as in SAGAN."""
    x = m.stem(x)
    n, _, h, w = x.shape
    q, k, v = (part(x).view(n, -1, h * w) for part in (m.query, m.key, m.value))
    maps = m.softmax(torch.bmm(q.permute(0, 2, 1), k))
    out = m.after(torch.bmm(v, maps.permute(0, 2, 1)).view(n, -1, h, w))
    return m.gamma(out) + x


def cbam(m: Net, x: Tensor) -> Tensor:
    x = m.stem(x)
    pooled = torch.cat([torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)], dim=1)
    x = x * m.spatial_gate(m.spatial(pooled))
    squeezed = F.avg_pool2d(x, (x.size(2), x.size(3)), stride=(x.size(2), x.size(3)))
    gate = m.mlp(squeezed) + m.mlp(F.lp_pool2d(x, 2, (x.size(2), x.size(3))))
    return m.after(x * torch.sigmoid(gate).unsqueeze(2).unsqueeze(3).expand_as(x))


def eca(m: Net, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = m.pool(x)
    y = m.conv(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
    return m.after(x * m.gate(y).expand_as(x))


def fpn(m: Net, x: Tensor) -> Tensor:
    low, high = m.c2(x), m.c3(m.c2(x))
    top = m.inner3(high)
    x = m.layer2(m.inner2(low) + F.interpolate(top, size=low.shape[-2:], mode="nearest"))
    pooled = F.interpolate(m.aspp(top), size=x.shape[-2:], mode="bilinear", align_corners=False)
    return m.after(torch.cat([x, pooled], 1))


def unet(m: Net, x: Tensor) -> Tensor:
    x1 = m.inc(x)
    x2 = m.up(m.down(m.pool(x1)))
    x2 = F.pad(x2, [0, x1.size(3) - x2.size(3), 0, x1.size(2) - x2.size(2)])
    return m.outc(m.conv(torch.cat([x1, x2], dim=1)))


def double(inputs: int, outputs: int) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


MAPS, CHAIN = given(3, 16, 16), given(3, 16, 16, name="input")
VISION = {
    "torchvision ConvNeXt": Entry(
        convnext, given(3, 32, 32, name="input"), (2, 8),
        {"1": 1, "4": 1, "2.block.1": LAST, "2.block.4": LAST}, 1,
    ),
    "torchvision Swin": Entry(
        swin, CHAIN, (2, 4, 8, 16), {"3.attn.softmax": 1, "6": 1}, silent=("3.attn.qkv",)
    ),
    "torchvision DenseNet": Entry(
        lambda: Net(
            densenet, stem=nn.Conv2d(3, 4, 3), layer1=DenseLayer(4), layer2=DenseLayer(8),
            transition=nn.Sequential(
                nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 6, 1), nn.AvgPool2d(2)
            ),
            norm5=nn.BatchNorm2d(6), classifier=nn.Linear(6, 5),
        ), MAPS, (2, 4, 8), rest=1,
    ),
    "torchvision GoogLeNet": Entry(
        lambda: Net(
            googlenet, conv1=double(3, 8), maxpool=nn.MaxPool2d(3, 2, ceil_mode=True),
            branch1=double(8, 4), branch2=double(8, 4), branch3=double(4, 6),
            branch4=nn.Sequential(nn.MaxPool2d(3, 1, 1), double(8, 2)),
            avgpool=nn.AdaptiveAvgPool2d(1), drop=nn.Dropout(), fc=nn.Linear(12, 5),
        ), MAPS, (2, 8, 12), rest=1,
    ),
    "torchvision ShuffleNetV2": Entry(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), ShuffleUnit(8), ShuffleUnit(8)), CHAIN,
        (2, 4, 8), rest=1,
    ),
    "torchvision MNASNet": Entry(mnasnet, CHAIN, (2, 8, 24), rest=1),
    "torchvision ResNet": Entry(
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), Bottleneck(6, 4), Bottleneck(16, 8, 2)), CHAIN,
        (4, 8, 16), rest=1,
    ),
    "a shared activation": Entry(lambda: SharedActivation(nn.SiLU()), MAPS, (6, 10), rest=1),
    "squeeze and excitation": Entry(SqueezeExcitation, MAPS, (2, 8, 12), rest=1),
    "SAGAN": Entry(
        lambda: Net(
            non_local, stem=nn.Conv2d(3, 8, 4, 4), query=nn.Conv2d(8, 4, 1),
            key=nn.Conv2d(8, 4, 1), value=nn.Conv2d(8, 8, 1), softmax=nn.Softmax(-1),
            after=nn.Identity(), gamma=nn.Identity(),
        ), MAPS, (2, 4, 8, 16), {"softmax": ONE}, 1,
    ),
    "CBAM": Entry(
        lambda: Net(
            cbam, stem=nn.Conv2d(3, 8, 3), spatial=nn.Conv2d(2, 1, 7, padding=3),
            spatial_gate=nn.Sigmoid(), after=nn.Identity(),
            mlp=nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8)),
        ), MAPS, (2, 4, 8), rest=1,
    ),
    # The convolution along the channels has one of its own.
    "ECA": Entry(
        lambda: Net(
            eca, stem=nn.Conv2d(3, 8, 3), pool=nn.AdaptiveAvgPool2d(1),
            conv=nn.Conv1d(1, 1, 3, padding=1), gate=nn.Sigmoid(), after=nn.Identity(),
        ), MAPS, (2, 8), {"gate": ONE}, 1,
    ),
    "FPN and ASPP": Entry(
        lambda: Net(
            fpn, c2=double(3, 8), c3=nn.Conv2d(8, 12, 3, 2, 1), inner2=nn.Conv2d(8, 6, 1),
            inner3=nn.Conv2d(12, 6, 1), layer2=nn.Conv2d(6, 6, 3, padding=1), after=nn.Identity(),
            aspp=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 4, 1), nn.ReLU()),
        ), MAPS, (2, 6, 8), rest=1,
    ),
    "U-Net": Entry(
        lambda: Net(
            unet, inc=double(3, 4), pool=nn.MaxPool2d(2), down=double(4, 8),
            up=nn.ConvTranspose2d(8, 4, 2, 2), conv=double(8, 4), outc=nn.Conv2d(4, 2, 1),
        ), given(3, 17, 15), (2, 4, 8), rest=1,
    ),
}  # fmt: skip
