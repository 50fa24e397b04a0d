"""Attention and tokens of timm, CLIP and MONAI: the operations of their forward."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from channel_table import Entry, Net, given
from torch import Tensor, nn


class Attention(nn.Module):
    """Of timm's ViT; with `biases`, of its EfficientFormer."""

    def __init__(self, dim: int, heads: int, biases: int = 0) -> None:
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(dim, 3 * dim)
        self.q_norm, self.k_norm = nn.Identity(), nn.LayerNorm(dim // heads)
        self.attn_drop, self.norm = nn.Dropout(0.1), nn.Identity()
        self.proj, self.proj_drop = nn.Linear(dim, dim), nn.Dropout(0.1)
        self.biases = nn.Parameter(torch.randn(heads, biases)) if biases else None

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        attn = q * (c // self.heads) ** -0.5 @ k.transpose(-2, -1)
        if self.biases is not None:
            attn = attn + self.biases[:, torch.arange(n * n).view(n, n) % self.biases.shape[1]]
        attn = self.attn_drop(attn.softmax(dim=-1))
        return self.proj_drop(self.proj(self.norm((attn @ v).transpose(1, 2).reshape(b, n, c))))


def mlp(dim: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim), nn.Dropout())


def tokens_of(m: Net, x: Tensor) -> Tensor:
    return m.norm(m.proj(x).flatten(2).transpose(1, 2))


def patches(width: int = 8) -> Net:
    return Net(tokens_of, proj=nn.Conv2d(3, width, 4, 4), norm=nn.LayerNorm(width))


def mixer(m: Net, x: Tensor) -> Tensor:
    x = m.stem(x)
    x = x + m.drop_path(m.mlp_tokens(m.norm1(x).transpose(1, 2)).transpose(1, 2))
    return m.after(x + m.mlp_channels(m.norm2(x)))


def vit(m: Net, x: Tensor) -> Tensor:
    x = m.stem(x)
    x = m.pos_drop(torch.cat([x.new_zeros(len(x), 1, 8), x], 1))
    x = x + m.ls(m.attn(m.norm1(x)))
    x = m.head_drop(m.fc_norm((x + m.mlp(x))[:, 1:].mean(dim=1)))
    return m.head(x)


def efficientformer(m: Net, x: Tensor) -> Tensor:
    x = m.stem(x)
    x = x + m.drop_path1(m.token_mixer.pool(x) - x)
    x = x + m.drop_path2(m.fc2(m.act(m.fc1(x))))
    x = m.flat(x.flatten(2).transpose(1, 2))
    return m.norm(x + m.attn(m.norm(x)))


def coat(m: Net, x: Tensor) -> Tensor:
    """Factorised attention with convolutions for the positions."""
    x = m.stem(x)
    n, length, c = x.shape
    image = x.transpose(1, 2).view(n, c, 4, 4)
    x = m.cpe((m.conv(image) + image).flatten(2).transpose(1, 2))
    q, k, v = m.qkv(x).reshape(n, length, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
    factor = m.factor(k.softmax(dim=2).transpose(-1, -2) @ v)
    maps = v.transpose(-1, -2).reshape(n, c, 4, 4)
    maps = torch.cat([conv(part) for conv, part in zip(m.crpe, maps.split(4, 1), strict=True)], 1)
    encoded = m.encoded(q * maps.reshape(n, 2, c // 2, length).transpose(-1, -2))
    return m.proj((q @ factor + encoded).transpose(1, 2).reshape(n, length, c))


def xcit(m: Net, x: Tensor) -> Tensor:
    """Attention between channels: its maps are of heads x D x D."""
    x = m.stem(x)
    n, length, c = x.shape
    q, k, v = m.qkv(x).reshape(n, length, 3, 2, c // 2).permute(2, 0, 3, 4, 1).unbind(0)
    attn = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * 2.0
    attn = m.attn_drop(attn.softmax(dim=-1))
    return m.proj((attn @ v).permute(0, 3, 1, 2).reshape(n, length, c))


def pooling(m: Net, x: Tensor) -> Tensor:
    """CLIP's AttentionPool2d: (L, N, C)."""
    x = m.stem(x).flatten(2).permute(2, 0, 1)
    x = m.before(torch.cat([x.mean(dim=0, keepdim=True), x], 0))
    return m.after(m.attn(x[:1], x, x)[0].squeeze(0))


def swin_unetr(m: Net, x: Tensor) -> Tensor:
    x = m.proj(x)
    n, c, d, h, w = x.shape
    x = m.norm(x.flatten(2).transpose(1, 2)).transpose(1, 2).view(-1, c, d, h, w)
    x = m.pos_drop(x).permute(0, 2, 3, 4, 1)
    windows = x.view(n, d // 2, 2, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 5, 2, 4, 6, 7)
    windows = m.attn(m.windows(windows.contiguous().view(-1, 8, c)))
    x = windows.view(n, d // 2, h // 2, w // 2, 2, 2, 2, c).permute(0, 1, 4, 2, 5, 3, 6, 7)
    x = m.merged(x.reshape(n, d, h, w, c))
    x = torch.cat([x[:, i::2, j::2, k::2, :] for i in (0, 1) for j in (0, 1) for k in (0, 1)], -1)
    return m.decoder(m.out(F.layer_norm(m.reduction(x), [16]).permute(0, 4, 1, 2, 3)))


PIXELS, KEYS = given(3, 16, 16), {"attn.q_norm": 1, "attn.attn_drop": 1}
ATTENTION = {
    # What a Linear over tokens makes are its features, until they are added to the channels.
    "timm MLP-Mixer": Entry(
        lambda: Net(
            mixer, stem=patches(), norm1=nn.LayerNorm(8), norm2=nn.LayerNorm(8),
            mlp_tokens=mlp(16, 12), mlp_channels=mlp(8, 12), drop_path=nn.Identity(),
            after=nn.Identity(),
        ), PIXELS, (2, 8, 12, 16), {"drop_path": 1},
    ),
    "timm ViT": Entry(
        lambda: Net(
            vit, stem=patches(), pos_drop=nn.Dropout(), norm1=nn.LayerNorm(8), ls=nn.Identity(),
            attn=Attention(8, 2), mlp=mlp(8, 16), fc_norm=nn.LayerNorm(8), head_drop=nn.Dropout(),
            head=nn.Linear(8, 5),
        ), PIXELS, (2, 4, 8, 17), KEYS,
    ),
    "timm EfficientFormer": Entry(
        lambda: Net(
            efficientformer, stem=nn.Conv2d(3, 8, 4, 4), drop_path1=nn.Identity(),
            drop_path2=nn.Identity(), fc1=nn.Conv2d(8, 12, 1), act=nn.GELU(),
            token_mixer=Net(lambda m, x: m.pool(x), pool=nn.AvgPool2d(3, 1, 1)),
            fc2=nn.Conv2d(12, 8, 1), flat=nn.Identity(), norm=nn.LayerNorm(8),
            attn=Attention(8, 2, 10),
        ), PIXELS, (2, 4, 8, 16), {**KEYS, "act": 1, "drop_path?": 1},
    ),
    "timm CoaT": Entry(
        lambda: Net(
            coat, stem=patches(), conv=nn.Conv2d(8, 8, 3, 1, 1, groups=8), cpe=nn.Identity(),
            qkv=nn.Linear(8, 24), factor=nn.Identity(), encoded=nn.Identity(),
            crpe=nn.ModuleList([nn.Conv2d(4, 4, k, 1, k // 2) for k in (3, 5)]),
            proj=nn.Linear(8, 8),
        ), PIXELS, (2, 4, 8, 16), {"factor": 1, "encoded": 1},
    ),
    "timm XCiT": Entry(
        lambda: Net(
            xcit, stem=patches(), qkv=nn.Linear(8, 24), attn_drop=nn.Dropout(),
            proj=nn.Linear(8, 8),
        ), PIXELS, (2, 4, 8, 16), {"attn_drop": 1},
    ),
    "CLIP's attention pooling": Entry(
        lambda: Net(
            pooling, stem=nn.Conv2d(3, 8, 4, 4), before=nn.Identity(),
            attn=nn.MultiheadAttention(8, 2), after=nn.Identity(),
        ), PIXELS, (2, 8, 17),
        silent=("attn.out_proj",),
    ),
    "MONAI SwinUNETR": Entry(
        lambda: Net(
            swin_unetr, proj=nn.Conv3d(1, 8, 2, 2), norm=nn.LayerNorm(8), pos_drop=nn.Dropout(),
            windows=nn.Identity(), attn=Attention(8, 2), merged=nn.Identity(),
            reduction=nn.Linear(64, 16), out=nn.Identity(),
            decoder=nn.Sequential(
                nn.ConvTranspose3d(16, 8, 2, 2), nn.InstanceNorm3d(8), nn.PReLU()
            ),
        ), given(1, 8, 8, 8), (2, 4, 8), {**KEYS, "pos_drop": 1, "out": 1, "decoder.*": 1},
    ),
}  # fmt: skip
