"""Read real photographs as batches of network input.

The files come from installed packages, never from the network. Every crop is a function of the
file, its name and the crop's number alone: order and batch size change no image.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fmstats.demo.packages import PILLOW, SCIKIT_IMAGE, SCIKIT_LEARN, find_file, require

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 224
_RESIZED_SIDE = 256

# Mean and standard deviation of ImageNet's RGB values in [0, 1], as in the weights' training.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Photographs only: drawings, silhouettes, scanned text and second frames of a stereo pair would
# bend the statistics of a network trained on photographs.
_FROM_SCIKIT_IMAGE = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
_FROM_SCIKIT_LEARN = ("china.jpg", "flower.jpg")


def find_photographs() -> list[Path]:
    """Return the paths of the demo's photographs, in a fixed order.

    Raises:
        FmstatsError: scikit-image or scikit-learn is not installed, or lacks one of the files.
    """
    require([SCIKIT_IMAGE, SCIKIT_LEARN])
    return [find_file(SCIKIT_IMAGE, "data", name) for name in _FROM_SCIKIT_IMAGE] + [
        find_file(SCIKIT_LEARN, "datasets", "images", name) for name in _FROM_SCIKIT_LEARN
    ]


def open_photograph(path: Path) -> Image:
    """Decode an image file to RGB; grey photographs get three equal channels.

    Raises:
        FmstatsError: pillow is not installed.
    """
    require([PILLOW])
    from PIL import Image

    with Image.open(path) as image:
        decoded: Image.Image = image.convert("RGB")
        return decoded


def preprocess(image: Image) -> Tensor:
    """Return the centre crop as the network expects it: float32 (3, 224, 224), normalised.

    The shorter side is resized to 256 (bilinear, antialiased), the middle 224 x 224 is kept.
    """
    shorter = min(image.size)
    width, height = (side * _RESIZED_SIDE // shorter for side in image.size)
    resized = _resize(image, (width, height))
    left, top = (round((side - SIDE) / 2) for side in resized.size)
    return _normalise(resized.crop((left, top, left + SIDE, top + SIDE)))


def crop_at_random(image: Image, key: str) -> Tensor:
    """Return the crop that `key` stands for: float32 (3, 224, 224), normalised.

    The crop has 8 to 100 % of the area, an aspect ratio of 3:4 to 4:3, and is mirrored half of
    the time: the augmentation of Szegedy et al. 2015 that the network was trained with.
    """
    # A str seed is hashed by SHA-512, hence the same on every platform and Python version.
    draw = random.Random(key)
    width, height = _draw_size(draw, *image.size)
    left = draw.randint(0, image.width - width)
    top = draw.randint(0, image.height - height)
    crop = _resize(image.crop((left, top, left + width, top + height)), (SIDE, SIDE))
    pixels = _normalise(crop)
    return pixels.flip(-1) if draw.random() < 0.5 else pixels


def iterate_images(paths: Sequence[Path], *, crops: int) -> Iterator[Tensor]:
    """Yield, for each photograph, its centre crop and then `crops` random crops."""
    for path in paths:
        image = open_photograph(path)
        yield preprocess(image)
        for number in range(crops):
            yield crop_at_random(image, f"{path.name} {number}")


def iterate_batches(paths: Sequence[Path], *, crops: int, batch_size: int) -> Iterator[Tensor]:
    """Yield float32 (n, 3, 224, 224); n is `batch_size` except in the last batch."""
    batch: list[Tensor] = []
    for image in iterate_images(paths, crops=crops):
        batch.append(image)
        if len(batch) == batch_size:
            yield torch.stack(batch)
            batch = []
    if batch:
        yield torch.stack(batch)


def _draw_size(draw: random.Random, width: int, height: int) -> tuple[int, int]:
    for _ in range(10):
        area = width * height * draw.uniform(0.08, 1.0)
        ratio = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
        crop_width = round(math.sqrt(area * ratio))
        crop_height = round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            return crop_width, crop_height
    side = min(width, height)
    return side, side


def _resize(image: Image, size: tuple[int, int]) -> Image:
    from PIL.Image import Resampling

    return image.resize(size, Resampling.BILINEAR)


def _normalise(image: Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 255
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
    return ((pixels - mean) / std).contiguous()
