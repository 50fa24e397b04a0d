"""Models of sound, series, points, graphs and volumes: the operations of their forward."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from channel_table import LAST, ONE, Entry, Net, given
from compat_models import UNet3d
from torch import Tensor, nn


def crepe(m: Net, x: Tensor) -> Tensor:
    """The layers of torchcrepe, fewer: sound in frames, (N, 1, L, 1)."""
    x = x[:, None, :, None]
    for conv, norm in ((m.conv1, m.conv1_BN), (m.conv2, m.conv2_BN)):
        x = F.max_pool2d(norm(F.relu(conv(F.pad(x, (0, 0, 3, 4))))), (2, 1), (2, 1))
        x = m.after(x)
    x = m.features(x.permute(0, 2, 1, 3).reshape(-1, 64))
    return torch.sigmoid(m.classifier(x))


def pointnet(m: Net, x: Tensor) -> Tensor:
    x = m.conv1(x)
    y = m.fc(torch.max(m.t_relu(m.t_conv(x)), 2, keepdim=True)[0].view(-1, 12))
    y = m.matrix(y.view(-1, 8, 8) + torch.eye(8).view(1, 64).repeat(len(x), 1).view(-1, 8, 8))
    x = m.moved(torch.bmm(x.transpose(2, 1), y).transpose(2, 1))
    x = m.bn(m.conv2(x))
    x = torch.max(x, 2, keepdim=True)[0].view(-1, 12)
    return F.log_softmax(m.head(m.drop(F.relu(x))), dim=1)


def lstm(m: Net, x: Tensor) -> Tensor:
    """A classifier of sequences, and one score of each sample."""
    x, (hidden, _) = m.lstm(m.drop(m.inputs(x)))
    scores = m.scores(m.drop2(x[:, -1]) + m.drop3(torch.cat([hidden[-2], hidden[-1]], 1)))
    return m.out(scores.squeeze(-1))


def demucs(m: Net, x: Tensor) -> Tensor:
    """The bottleneck of Demucs: a time-major GRU between convolutions."""
    y = m.glu(m.conv(x)).permute(2, 0, 1)
    y = m.time_major(m.gru(y)[0])
    y = m.linear(y).permute(1, 2, 0)
    return m.deconv(m.after(y))


def wavenet(m: Net, x: Tensor) -> Tensor:
    x = m.conv_in(F.pad(x, (2, 0)))
    gated = m.drop(torch.tanh(m.filter(x))[:, :, :-2] * torch.sigmoid(m.gate(x))[:, :, :-2])
    return m.norm((m.skip(gated) + x[..., -gated.size(2) :]).transpose(1, 2))


def conformer(m: Net, x: Tensor) -> Tensor:
    x = m.pointwise1(m.norm(x).transpose(1, 2))
    x = m.act(m.bn(m.depthwise(m.glu(x))))
    return m.drop(m.pointwise2(x).transpose(1, 2))


def graph(m: Net, x: Tensor) -> Tensor:
    """Two graph convolutions over nodes, (N, V, C), and how similar samples are."""
    near = torch.softmax(x @ x.transpose(1, 2), -1)
    x = m.act(torch.bmm(near, m.lin1(x)))
    x = m.drop(torch.einsum("nvw,nwc->nvc", near, m.lin2(x)))
    x = F.normalize(m.pooled(x.mean(1)), dim=-1)
    return m.similar(x @ x.t())


SOUND = given(4, 16)
SIGNALS = {
    "MONAI UNet": Entry(UNet3d, given(1, 4, 6, 8), (2, 5, 7), rest=1),
    "torchcrepe": Entry(
        lambda: Net(
            crepe, conv1=nn.Conv2d(1, 8, (8, 1)), conv1_BN=nn.BatchNorm2d(8), after=nn.Identity(),
            conv2=nn.Conv2d(8, 4, (8, 1)), conv2_BN=nn.BatchNorm2d(4), features=nn.Identity(),
            classifier=nn.Linear(64, 12),
        ), given(64), (2, 4, 8, 16), {"features": LAST}, 1,
    ),
    "PointNet": Entry(
        lambda: Net(
            pointnet, conv1=nn.Conv1d(3, 8, 1), t_conv=nn.Conv1d(8, 12, 1), t_relu=nn.ReLU(),
            fc=nn.Linear(12, 64), matrix=nn.Identity(), moved=nn.Identity(),
            conv2=nn.Conv1d(8, 12, 1), bn=nn.BatchNorm1d(12), drop=nn.Dropout(),
            head=nn.Linear(12, 5),
        ), given(3, 12), (2, 8, 12), rest=1,
    ),
    "LSTM": Entry(
        lambda: Net(
            lstm, inputs=nn.Linear(4, 6), drop=nn.Dropout(), drop2=nn.Dropout(),
            lstm=nn.LSTM(6, 5, batch_first=True, bidirectional=True), drop3=nn.Dropout(),
            scores=nn.Linear(10, 1), out=nn.Sigmoid(),
        ), given(7, 4), (2, 5, 7, 10), {"out": ONE},
    ),
    "Demucs": Entry(
        lambda: Net(
            demucs, conv=nn.Conv1d(4, 16, 3), glu=nn.GLU(1), gru=nn.GRU(8, 6),
            time_major=nn.Dropout(), linear=nn.Linear(6, 8), after=nn.Identity(),
            deconv=nn.ConvTranspose1d(8, 4, 3),
        ), SOUND, (2, 6, 8, 14), {"glu": 1, "after": 1},
    ),
    "WaveNet": Entry(
        lambda: Net(
            wavenet, conv_in=nn.Conv1d(4, 8, 3), filter=nn.Conv1d(8, 6, 3, padding=2),
            gate=nn.Conv1d(8, 6, 3, padding=2), drop=nn.Dropout(), skip=nn.Conv1d(6, 8, 1),
            norm=nn.LayerNorm(8),
        ), SOUND, (2, 6, 8, 16), rest=1,
    ),
    "Conformer": Entry(
        lambda: Net(
            conformer, norm=nn.LayerNorm(8), pointwise1=nn.Conv1d(8, 16, 1), glu=nn.GLU(dim=1),
            depthwise=nn.Conv1d(8, 8, 3, padding=1, groups=8), bn=nn.BatchNorm1d(8), act=nn.SiLU(),
            pointwise2=nn.Conv1d(8, 8, 1), drop=nn.Dropout(),
        ), given(8, 8), (2, 8), {"glu": 1, "act": 1},
    ),
    "GCN": Entry(
        lambda: Net(
            graph, lin1=nn.Linear(4, 8), act=nn.ELU(), lin2=nn.Linear(8, 6), drop=nn.Dropout(),
            pooled=nn.Linear(6, 6), similar=nn.Identity(),
        ), given(6, 4), (2, 6, 8), {"similar": ONE},
    ),
}  # fmt: skip
