"""Models that make images, of diffusers and others: the operations of their forward."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from channel_table import LAST, ONE, Entry, Net, given
from torch import Tensor, nn


def diffusers_attention(m: Net, x: Tensor) -> Tensor:
    """The attention of a UNet, or of a VAE: heads are samples of one batched product."""
    residual = x = m.conv(x)
    n, c, h, w = x.shape
    x = m.group_norm(x.view(n, c, h * w)).transpose(1, 2)

    def heads(y: Tensor) -> Tensor:
        y = y.reshape(n, h * w, 2, c // 2).permute(0, 2, 1, 3)
        return m.split(y.reshape(n * 2, h * w, c // 2))

    q, k, v = heads(m.to_q(x)), heads(m.to_k(x)), heads(m.to_v(x))
    scores = torch.empty(n * 2, h * w, h * w, dtype=q.dtype)
    scores = torch.baddbmm(scores, q, k.transpose(-1, -2), beta=0, alpha=0.5)
    x = m.each(torch.bmm(m.probs(scores.softmax(dim=-1)), v))
    x = m.joined(x.reshape(n, 2, h * w, c // 2).permute(0, 2, 1, 3).reshape(n, h * w, c))
    x = m.to_out(x).transpose(-1, -2).reshape(n, c, h, w)
    return m.after(x + residual)


def geglu(m: Net, x: Tensor) -> Tensor:
    hidden, gate = m.proj(x).chunk(2, dim=-1)
    return m.out(m.drop(hidden * F.gelu(m.gate(gate))))


def resnet_block(m: Net, x: Tensor) -> Tensor:
    """Of diffusers, with the embedding of a time step."""
    x = m.conv_in(x)
    temb = m.time_emb_proj(m.nonlinearity(m.time(torch.ones(len(x), 4))))[:, :, None, None]
    scale, move = torch.chunk(temb, 2, dim=1)
    y = m.norm2(m.conv1(m.nonlinearity(m.norm1(x)))) * (1 + scale) + move
    y = m.conv2(m.dropout(m.nonlinearity(y)))
    return F.interpolate((x + y) / 1.5, scale_factor=2.0, mode="nearest")


def vae(m: Net, x: Tensor) -> Tensor:
    mean, logvar = torch.chunk(m.quant_conv(m.encoder(x)), 2, dim=1)
    std = torch.exp(0.5 * torch.clamp(logvar, -30.0, 20.0))
    return m.decoder(m.sample(mean + std * torch.zeros_like(std)))


def style(m: Net, x: Tensor) -> Tensor:
    """A modulated convolution of StyleGAN2: the samples are groups of one convolution."""
    x, styles = m.stem(x), m.affine(x.mean((2, 3)))
    n, c, h, w = x.shape
    weight = m.conv.weight.unsqueeze(0) * styles.reshape(n, 1, -1, 1, 1)
    weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = F.conv2d(x.reshape(1, n * c, h, w), weight.reshape(n * 12, c, 3, 3), None, 1, 1, 1, n)
    return m.act(x.reshape(n, 12, h, w) + weight.new_ones(n, 1, h, w))


def vq(m: Net, x: Tensor) -> Tensor:
    """The bottleneck of a VQ-VAE: each place takes the nearest code."""
    z = m.encoder(x).permute(0, 2, 3, 1).contiguous()
    flat = z.view(-1, 8)
    nearest = m.distance(torch.cdist(flat, m.codes.weight)).argmin(1)
    quantized = m.taken(m.codes.weight[nearest]).view(z.shape)
    return m.decoder(m.after((z + (quantized - z).detach()).permute(0, 3, 1, 2).contiguous()))


PIXELS = given(3, 16, 16)
GENERATORS = {
    "StyleGAN2": Entry(
        lambda: Net(
            style, stem=nn.Conv2d(3, 8, 3), affine=nn.Linear(3, 8), conv=nn.Conv2d(8, 12, 3),
            act=nn.LeakyReLU(0.2),
        ), PIXELS, (2, 8, 12), rest=1, silent=("conv",),
    ),
    "VQ-VAE": Entry(
        lambda: Net(
            vq, encoder=nn.Conv2d(3, 8, 4, 4), codes=nn.Embedding(6, 8), distance=nn.Identity(),
            taken=nn.Identity(), after=nn.Identity(), decoder=nn.ConvTranspose2d(8, 3, 4, 4),
        ), PIXELS, (2, 6, 8), {"distance": ONE, "taken": LAST}, 1, silent=("codes",),
    ),
    # Heads that are joined with the samples are lost; so are those of maps of one head.
    "diffusers attention": Entry(
        lambda: Net(
            diffusers_attention, conv=nn.Conv2d(3, 8, 4, 4), group_norm=nn.GroupNorm(4, 8),
            to_q=nn.Linear(8, 8), to_k=nn.Linear(8, 8), to_v=nn.Linear(8, 8),
            split=nn.Identity(), probs=nn.Identity(), each=nn.Identity(), joined=nn.Identity(),
            to_out=nn.Sequential(nn.Linear(8, 8), nn.Dropout()), after=nn.Identity(),
        ), PIXELS, (2, 4, 8, 16), {"probs": ONE, "after": 1},
    ),
    "diffusers GEGLU": Entry(
        lambda: Net(
            geglu, proj=nn.Linear(8, 24), gate=nn.Identity(), drop=nn.Dropout(),
            out=nn.Linear(12, 8),
        ), given(6, 8), (2, 6, 12),
    ),
    "diffusers ResnetBlock2D": Entry(
        lambda: Net(
            resnet_block, conv_in=nn.Conv2d(3, 8, 3), time=nn.Linear(4, 8),
            time_emb_proj=nn.Linear(8, 16), nonlinearity=nn.SiLU(), norm1=nn.GroupNorm(4, 8),
            norm2=nn.GroupNorm(4, 8), conv1=nn.Conv2d(8, 8, 3, padding=1), dropout=nn.Dropout(),
            conv2=nn.Conv2d(8, 8, 3, padding=1),
        ), PIXELS, (2, 8, 14), rest=1,
    ),
    "diffusers VAE": Entry(
        lambda: Net(
            vae, encoder=nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 8, 1)),
            quant_conv=nn.Conv2d(8, 8, 1), sample=nn.Identity(),
            decoder=nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 3, 3)),
        ), PIXELS, (2, 4, 8), rest=1,
    ),
}  # fmt: skip
