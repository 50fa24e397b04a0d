"""Pictures beside those that were looked at and found good, in tests/golden/pictures.

To write them anew, and then look at them:
`FMSTATS_OVERWRITE_GOLDEN=1 pytest tests/test_pictures_golden.py`
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_models import Given, Tokens, image, made_stages, wave
from torch import nn

import fmstats

pytest.importorskip("matplotlib", reason="needs matplotlib")
pytest.importorskip("PIL", reason="needs Pillow")
from PIL import Image

from fmstats.pictures import overlay, plot_profile, top_images, visualize, visualize_hierarchy

GOLDEN = Path(__file__).parent / "golden" / "pictures"
OVERWRITE = os.environ.get("FMSTATS_OVERWRITE_GOLDEN") == "1"
DPI = 60

# Root of the mean square, of 255, over blocks of 6 x 6 pixels: other builds of FreeType move edges
# of letters, which blocks smooth away. Text without antialiasing makes 2 to 3, without hinting 4 to
# 6 (in the hierarchy more: widths of texts move its maps); another channel makes 17, another order
# 23, other colours 57. Single values are compared where axes are read back.
TOLERANCE = 7.0
BLOCK = 6


def flawed() -> torch.Tensor:
    planes = wave(6, 8, 8)
    planes[1] = 0
    planes[2] = float("nan")
    planes[3, :2, :3] = float("inf")
    planes[4] *= 5
    return planes[None]


def batches() -> torch.Tensor:
    return torch.stack([image().roll(n, -1) * (1 - n / 20) for n in range(9)])


PICTURES: dict[str, Callable[[], object]] = {
    "grid": lambda: visualize(made_stages(), image(), "3"),
    "grid_flawed": lambda: visualize(nn.Sequential(Given(flawed())), image(), "0"),
    "grid_own_scale": lambda: visualize(
        made_stages(), image(), "6", 7, order="variance", scale="channel", cmap="cividis"
    ),
    "grid_strips": lambda: visualize(nn.Sequential(Tokens(wave(1, 11, 5))), image(), "0"),
    "hierarchy": lambda: visualize_hierarchy(made_stages(), image(), channels=4),
    "overlay": lambda: overlay(made_stages(), image(), "4", 5),
    "top_images": lambda: top_images(made_stages(), batches(), "4", 5, 4).figure(),
    "profile": lambda: plot_profile(
        fmstats.profile(nn.Sequential(*made_stages(), nn.Sigmoid()), batches(), backend="torch")
    ),
}


def pixels_of(figure: object) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Between two pictures of about the same size, in blocks of the first one's pixels."""
    size = (a.shape[1] // BLOCK, a.shape[0] // BLOCK)
    small = [Image.fromarray(x).resize(size, Image.Resampling.BOX) for x in (a, b)]
    a, b = (np.asarray(x).astype(float) for x in small)
    return float(np.sqrt(np.mean((a - b) ** 2)))


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_the_one_that_was_looked_at(name: str) -> None:
    drawn = pixels_of(PICTURES[name]())
    path = GOLDEN / f"{name}.png"
    if OVERWRITE:
        Image.fromarray(drawn).save(path, optimize=True)
        pytest.skip(f"written: {path.name}")
    with Image.open(path) as picture:
        expected = np.asarray(picture.convert("RGB"))
    # Sizes follow from measured texts, so another FreeType may move them by a little.
    assert np.allclose(drawn.shape, expected.shape, rtol=0.02)
    assert difference(drawn, expected) < TOLERANCE


def test_mistakes_are_found() -> None:
    grid = pixels_of(PICTURES["grid"]())
    plasma = pixels_of(visualize(made_stages(), image(), "3", cmap="plasma"))
    assert difference(grid, plasma) > 5 * TOLERANCE
    ordered = pixels_of(visualize(made_stages(), image(), "3", order="mean"))
    assert difference(grid, ordered) > 2 * TOLERANCE
    other = pixels_of(overlay(made_stages(), image(), "4", 4))
    assert difference(pixels_of(PICTURES["overlay"]()), other) > 2 * TOLERANCE


def test_the_same_picture_twice_is_the_same() -> None:
    assert difference(pixels_of(PICTURES["grid"]()), pixels_of(PICTURES["grid"]())) == 0
