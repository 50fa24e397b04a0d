"""Receptive fields against what real nets see: with a column of NaN, which outputs are NaN?"""

from __future__ import annotations

import math

import analysis_models
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fmstats

WIDTH = 96


class Of(nn.Module):
    """A net of a function of the input and of layers that it is given."""

    def __init__(self, forward, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.of = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.of(x, *self.layers)


def conv(inputs=2, outputs=2, kernel=3, **options):
    return nn.Conv2d(inputs, outputs, kernel, **options)


def seen_by_outputs(net: nn.Module, dims: int) -> Tensor:
    """A row per column of the output, true where that column of the input reaches it."""
    shape = (WIDTH, 2, *[24] * (dims - 1), WIDTH)
    x = torch.rand(shape)
    x[torch.arange(WIDTH), ..., torch.arange(WIDTH)] = math.nan
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.01)
    with torch.no_grad():
        y = net.eval()(x)
    return y.isnan().flatten(1, -2).any(dim=1).T


def measured(net: nn.Module, dims: int) -> tuple[int, float, float]:
    """The largest and the mean extent around the middle, and the step between neighbours."""
    seen = seen_by_outputs(net, dims).double()
    low = seen.argmax(dim=1)
    high = WIDTH - 1 - seen.flip(1).argmax(dim=1)
    middle, period = len(seen) // 2, min(12, len(seen) // 4)
    # A transposed, dilated convolution leaves gaps, which see nothing.
    here = [i for i in range(middle - period // 2, middle + period // 2 + 1) if seen[i].any()]
    extents = (high - low + 1)[here[:-1]]
    step = (low[here[-1]] - low[here[0]]).item() / (here[-1] - here[0])
    return int(extents.max()), extents.double().mean().item(), step


def shown(net: nn.Module, dims: int) -> tuple[object, object]:
    """Width and stride that the analysis gives for the output of the net."""
    trace_of = fmstats.analyze(nn.Sequential(net), input_size=(1, 2, *[24] * (dims - 1), WIDTH))
    first = trace_of.parts["0"].first
    assert first is not None
    return (None, None) if first.field is None else (first.field.size[-1], first.field.stride[-1])


EXACT = {
    "3x3": nn.Sequential(conv()),
    "1x1 mixes channels": nn.Sequential(conv(kernel=1)),
    "stride": nn.Sequential(conv(stride=2), conv(kernel=5), conv(stride=3)),
    "dilation": nn.Sequential(conv(dilation=2), conv(dilation=4, padding=4)),
    "even kernel": nn.Sequential(conv(kernel=4, stride=2), conv(kernel=2)),
    "depthwise": nn.Sequential(conv(groups=2, stride=2), conv(kernel=1), nn.ReLU6()),
    "max pool": nn.Sequential(conv(), nn.MaxPool2d(3, 2, 1), conv()),
    "max pool, dilated": nn.Sequential(nn.MaxPool2d(3, 1, 1, dilation=2), conv()),
    "average pool": nn.Sequential(nn.AvgPool2d(2), conv(), nn.AvgPool2d(3, ceil_mode=True)),
    "norms, dropout": nn.Sequential(conv(), nn.BatchNorm2d(2), nn.Dropout(), nn.GELU(), conv()),
    "padding": nn.Sequential(nn.ZeroPad2d(1), conv(), nn.ReflectionPad2d(2), conv()),
    "reflecting convolution": nn.Sequential(conv(padding=2, padding_mode="reflect"), conv()),
    "residual": Of(lambda x, a, b: x + b(F.relu(a(x))), *[conv(padding=1) for _ in "ab"]),
    "dense": Of(
        lambda x, a, b: b(torch.cat([x, a(x)], dim=1)), conv(padding=1), conv(4, 2, kernel=5)
    ),
    "unequal branches": Of(
        lambda x, a, b: torch.cat([a(x), b(x)], 1),
        *(conv(padding=1), conv(kernel=7, padding=3)),
    ),
    "unequal branches, added": Of(
        lambda x, a, b: a(x) + b(x), conv(kernel=1, stride=2), conv(padding=1, stride=2)
    ),
    "transposed 4, 2": nn.Sequential(nn.ConvTranspose2d(2, 2, 4, 2, 1)),
    "transposed 3, 2": nn.Sequential(conv(), nn.ConvTranspose2d(2, 2, 3, 2), conv()),
    "transposed 2, 2": nn.Sequential(conv(stride=2), nn.ConvTranspose2d(2, 2, 2, 2)),
    "transposed 5, 3": nn.Sequential(nn.ConvTranspose2d(2, 2, 5, 3)),
    "transposed, dilated": nn.Sequential(nn.ConvTranspose2d(2, 2, 3, 2, dilation=2)),
    "transposed, gaps": nn.Sequential(nn.ConvTranspose2d(2, 2, 4, 2, dilation=3)),
    "channels last": Of(
        lambda x, a, norm, b: b(norm(a(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2),
        *(conv(kernel=7), nn.LayerNorm(2), nn.Linear(2, 2)),
    ),
    "spatial gate": Of(lambda x, a: x * a(x.mean(1, keepdim=True)), conv(1, 1, padding=1)),
    "max over channels": Of(lambda x, a: a(x).max(dim=1, keepdim=True).values, conv()),
    "cropped skip": Of(
        lambda x, a, b: b(torch.cat([a(x), x[..., 1:-1, 1:-1]], 1)), conv(), conv(4)
    ),
}
# Here the extent differs from element to element: the mean is followed.
MEAN = {
    "nearest": nn.Sequential(conv(), nn.Upsample(scale_factor=2), conv()),
    "nearest, even kernel": nn.Sequential(nn.Upsample(scale_factor=2), conv(kernel=2)),
    "nearest, two convolutions": nn.Sequential(nn.Upsample(scale_factor=4), conv(), conv()),
    "bilinear": nn.Sequential(conv(), nn.Upsample(scale_factor=2, mode="bilinear"), conv()),
    "bicubic": nn.Sequential(conv(), nn.Upsample(scale_factor=2, mode="bicubic")),
    "down and up": nn.Sequential(
        *(conv(stride=2), conv(), nn.Upsample(scale_factor=2), conv(padding=1))
    ),
    "U-Net": Of(
        lambda x, a, b, c: c(torch.cat([x, F.interpolate(b(a(x)), scale_factor=2.0)], dim=1)),
        *(conv(stride=2, padding=1), conv(padding=1), conv(4, 2)),
    ),
}
OTHER_DIMS = {
    "1-d": (1, nn.Sequential(nn.Conv1d(2, 2, 5, 2), nn.ReLU(), nn.Conv1d(2, 2, 3, dilation=3))),
    "1-d pools": (
        1,
        nn.Sequential(nn.Conv1d(2, 2, 3), nn.MaxPool1d(3, 2), nn.AvgPool1d(2), nn.Conv1d(2, 2, 3)),
    ),
    "3-d": (3, nn.Sequential(nn.Conv3d(2, 2, 3), nn.MaxPool3d(2), nn.Conv3d(2, 2, 3), nn.ReLU())),
}


@pytest.mark.parametrize("name", EXACT)
def test_the_field_is_what_reaches_an_output(name: str) -> None:
    largest, _, step = measured(EXACT[name], 2)
    assert shown(EXACT[name], 2) == (largest, pytest.approx(step, abs=0.09))


@pytest.mark.parametrize("name", MEAN)
def test_behind_an_upsampling_it_is_the_mean(name: str) -> None:
    _, mean, step = measured(MEAN[name], 2)
    assert shown(MEAN[name], 2) == (pytest.approx(mean, abs=0.2), pytest.approx(step, abs=0.09))


@pytest.mark.parametrize("name", OTHER_DIMS)
def test_other_numbers_of_dims(name: str) -> None:
    dims, net = OTHER_DIMS[name]
    largest, _, step = measured(net, dims)
    assert shown(net, dims) == (largest, pytest.approx(step, abs=0.09))


EVERYTHING = {
    "global pooling": nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1)),
    "mean of positions": Of(lambda x, a: a(x).mean((2, 3)), conv()),
    "flattened": nn.Sequential(conv(padding=1), nn.Flatten(), nn.Linear(2 * 24 * WIDTH, 3)),
    "attention": Of(lambda x, a: F.scaled_dot_product_attention(*[a(x).flatten(2).mT] * 3), conv()),
    "after attention": Of(
        lambda x, a: x + F.scaled_dot_product_attention(*[a(x).flatten(2).mT] * 3).mT.view_as(x),
        conv(padding=1),
    ),
    "times what sees everything": Of(
        lambda x, a: a(x) * a(x).flatten(2).softmax(-1).view_as(a(x)), conv()
    ),
    "softmax over positions": Of(lambda x, a: a(x).flatten(2).softmax(-1), conv()),
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_all_of_the_input_is_no_number(name: str) -> None:
    assert shown(EVERYTHING[name], 2) == (None, None)


def test_a_layout_that_is_not_followed_is_no_number() -> None:
    focus = Of(lambda x, a: a(torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2]], 1)), conv(4))
    folded = Of(lambda x, a: a(F.pixel_unshuffle(x, 2)), conv(8))
    for net in (focus, folded):
        assert shown(net, 2) == (None, None)


def test_a_gate_with_a_number_a_channel_is_left_out() -> None:
    squeeze = Of(
        lambda x, a, b: a(x) * b(x.mean((2, 3), keepdim=True)).sigmoid(), conv(), conv(kernel=1)
    )
    assert shown(squeeze, 2) == (3, 1)
    in_place = Of(lambda x, a: a(x).mul_(a(x).mean((2, 3), keepdim=True)), conv())
    assert shown(in_place, 2) == (3, 1)


def test_it_follows_araujo_et_al_in_vgg() -> None:
    """VGG-16: 212 pixels at the last pooling, stride 32 (Araujo et al. 2019, table 1)."""
    layers: list[nn.Module] = []
    for convolutions in (2, 2, 3, 3, 3):
        layers += [*(conv(padding=1) for _ in range(convolutions)), nn.MaxPool2d(2)]
    found = fmstats.analyze(nn.Sequential(*layers), input_size=(1, 2, 224, 224))
    assert (found.rows[-1].receptive_field, found.rows[-1].stride) == (212, 32)


def test_uneven_windows_are_told_by_dim() -> None:
    net = nn.Sequential(conv(kernel=(3, 1), stride=(2, 1)), nn.Upsample(scale_factor=(1, 2)))
    rows = fmstats.analyze(net, input_size=(1, 2, 16, 16)).rows
    assert [(r.receptive_field, r.stride) for r in rows] == [((3, 1), (2, 1)), ((3, 1), (2, 0.5))]


def test_inputs_without_space_have_none() -> None:
    rows = fmstats.analyze(nn.Linear(4, 4), input_size=(2, 4)).rows
    assert (rows[0].receptive_field, rows[0].stride) == (None, None)


def test_it_follows_whole_nets() -> None:
    """Each 3x3 adds two strides, each pooling of 2x2 one; the stems see 3 and 7 pixels."""
    strides = (2, 2, 4, 4, 8, 8, 8, *[16] * 7, *[32] * 3)
    blocks = ((6, 4), (12, 8), (24, 16), (16, 32))
    dense = 7 + 2 * 2 + sum(2 * layers * stride for layers, stride in blocks) + 4 + 8 + 16
    for name, last, field in (
        ("MobileNetV2", "features.18.2", 3 + 2 * sum(strides)),
        ("DenseNet-121", "21", dense),
    ):
        row = analysis_models.analyzed(name)[last]
        assert (row.receptive_field, row.stride) == (field, 32)
