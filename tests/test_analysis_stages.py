"""Resolution against channels, and the rule 'double the channels, halve the resolution'."""

from __future__ import annotations

import analysis_models
import torch
from torch import Tensor, nn

import fmstats


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


def stages_of(net: nn.Module, size: tuple[int, ...] = (1, 3, 64, 64)) -> fmstats.analysis.Stages:
    return fmstats.analyze(net.eval(), input_size=size).stages


def test_a_net_by_the_rule() -> None:
    net = nn.Sequential(
        *(conv(3, 16), nn.ReLU(), conv(16, 16)),
        *(conv(16, 32, 2), nn.ReLU(), conv(32, 32)),
        *(conv(32, 64, 2), conv(64, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )
    stages = stages_of(net, (2, 3, 64, 64))
    found = [(s.resolution, s.channels, s.elements, s.relative, s.last, s.layers) for s in stages]
    assert found == [
        ((64, 64), 16, 65536, 1.0, "2", 3),
        ((32, 32), 32, 32768, 0.5, "5", 3),
        ((16, 16), 64, 16384, 0.25, "7", 2),
    ]
    # Constant FLOPs per layer, of both samples.
    assert {s.flops for s in stages} == {2 * 2 * 64 * 64 * 16 * 16 * 9}
    assert stages.follow_the_rule
    assert stages.breaks == ()
    assert str(stages).endswith("every step doubles the channels and halves the resolution")


def test_breaks_name_the_layer() -> None:
    net = nn.Sequential(
        conv(3, 16), conv(16, 24, 2), conv(24, 48, 2), nn.MaxPool2d(2), conv(48, 96)
    )
    stages = stages_of(net)
    assert not stages.follow_the_rule
    (first,) = stages.breaks
    assert (first.layer, first.before, first.after) == ("1", (16, 64, 64), (24, 32, 32))
    assert str(first) == "1: channels 16 to 24 (x 1.5), resolution x 0.5"
    assert f"not 'double the channels, halve the resolution': {first}" in str(stages)


def test_odd_resolutions_are_halved_either_way() -> None:
    for padding in (0, 1):
        net = nn.Sequential(conv(3, 8), nn.Conv2d(8, 16, 3, 2, padding))
        assert stages_of(net, (1, 3, 15, 15)).follow_the_rule


def test_resnet_steps_are_its_stages() -> None:
    stages = analysis_models.analyzed("ResNet-50").stages
    assert [(s.resolution[0], s.channels) for s in stages] == [
        (112, 64),
        (56, 256),
        (28, 512),
        (14, 1024),
        (7, 2048),
    ]
    assert [s.relative for s in stages] == [1, 1, 0.5, 0.25, 0.125]
    (stem,) = stages.breaks
    assert stem.layer == "resnet.encoder.stages.0.layers.0.layer.2.convolution"
    assert (stem.before[0], stem.after[0]) == (64, 256)
    # Bottlenecks keep the FLOPs of their heaviest layer (He et al. 2016).
    assert len({s.flops for s in list(stages)[1:]}) == 1


def test_a_decoder_is_the_rule_backwards() -> None:
    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.down, self.b = conv(3, 16), conv(16, 32, 2), conv(32, 32)
            self.up, self.c = nn.ConvTranspose2d(32, 16, 2, 2), conv(32, 16)

        def forward(self, x: Tensor) -> Tensor:
            a = self.a(x)
            return self.c(torch.cat([a, self.up(self.b(self.down(a)))], dim=1))

    stages = stages_of(UNet())
    assert [(s.resolution[0], s.channels) for s in stages] == [(64, 16), (32, 32), (64, 16)]
    assert stages.follow_the_rule


def test_other_dims_and_none() -> None:
    one = stages_of(
        nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.Conv1d(8, 16, 4, 2, 1)), (1, 3, 64)
    )
    assert [(s.resolution, s.channels) for s in one] == [((64,), 8), ((32,), 16)]
    assert one.follow_the_rule
    none = stages_of(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), (2, 4))
    assert (list(none), none.follow_the_rule, len(none)) == ([], False, 0)
    assert str(none) == "no stages: no layer gives feature maps"
    tokens = stages_of(nn.TransformerEncoderLayer(16, 4, batch_first=True), (2, 5, 16))
    assert len(tokens) == 0
