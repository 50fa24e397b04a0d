"""What a user calls an image: each form gives the input and the picture it stands for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_models import image, wave

from fmstats.errors import FmstatsError
from fmstats.pictures.inputs import DEFAULT_TRANSFORM, picture_of, read_image
from fmstats.sources.images import IMAGENET_MEAN, IMAGENET_STD, ImageTransform

pytest.importorskip("PIL", reason="needs Pillow")
from PIL import Image

SMALL = ImageTransform(8, 10, (0.5, 0.5, 0.5), (0.25, 0.5, 1.0))


def pixels(height: int = 30, width: int = 40) -> np.ndarray:
    return (np.arange(height * width * 3) * 7 % 256).astype(np.uint8).reshape(height, width, 3)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(pixels()).save(path)
    return path


def tensor_of(one) -> torch.Tensor:
    (x,) = one.inputs.args
    return x


def test_files_pillow_images_and_bytes_are_the_same_picture(photo: Path) -> None:
    expected = DEFAULT_TRANSFORM.read(photo)[None]
    assert expected.shape == (1, 3, 224, 224)
    with Image.open(photo) as opened:
        for form in (photo, str(photo), opened, pixels()):
            assert torch.equal(tensor_of(read_image(form)), expected)
    assert torch.equal(tensor_of(read_image(photo, SMALL)), SMALL.read(photo)[None])


def test_the_picture_is_what_the_model_sees(photo: Path) -> None:
    one = read_image(photo, SMALL)
    assert one.picture.shape == (8, 8, 3)
    x = tensor_of(one)[0]
    assert np.allclose(one.picture[..., 0], x[0] * 0.25 + 0.5, atol=1e-6)
    assert one.picture.min() >= 0
    assert one.picture.max() <= 1


def test_a_function_can_be_the_transform(photo: Path) -> None:
    def whole(picture: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255

    one = read_image(photo, whole)
    assert tensor_of(one).shape == (1, 3, 30, 40)
    assert np.allclose(one.picture, pixels() / 255)


@pytest.mark.parametrize(
    ("array", "size"),
    [(pixels()[..., 0], (30, 40)), (pixels()[..., :1], (30, 40)), (pixels(6, 4), (6, 4))],
)
def test_grey_and_small_bytes(array: np.ndarray, size: tuple[int, int]) -> None:
    seen = []
    read_image(array, lambda picture: seen.append(picture) or torch.zeros(3, 2, 2))
    assert seen[0].mode == "RGB"
    assert seen[0].size == size[::-1]


@pytest.mark.parametrize("form", [image(), image()[None], image().numpy(), image()[None].numpy()])
def test_floats_go_in_as_they_are(form: object) -> None:
    one = read_image(form)
    assert torch.equal(tensor_of(one), image()[None])
    assert np.array_equal(one.picture, image().permute(1, 2, 0).numpy())


def test_other_inputs_are_given_as_batches() -> None:
    (x,) = read_image((wave(1, 2, 9),)).inputs.args
    assert x.shape == (1, 2, 9)
    one = read_image({"tokens": torch.zeros(1, 5, dtype=torch.long)})
    assert list(one.inputs.kwargs) == ["tokens"]
    assert one.picture is None


def test_normalised_tensors_are_shown_without_it() -> None:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    normalised = (image() - mean) / std
    assert np.allclose(picture_of(normalised), image().permute(1, 2, 0), atol=1e-6)
    wild = wave(3, 4, 4) * 50
    shown = picture_of(wild)
    assert (shown.min(), shown.max()) == (0, 1)
    assert picture_of(wave(2, 4, 4)).shape == (4, 4, 3)
    assert np.array_equal(picture_of(torch.full((1, 2, 2), 9.0)), np.zeros((2, 2, 3)))
    assert np.isfinite(picture_of(torch.full((3, 2, 2), float("nan")))).all()


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("nowhere.png", r"'nowhere.png' cannot be read: FileNotFoundError"),
        (torch.zeros(2, 3, 4, 4), r"image holds 2 samples, \(2, 3, 4, 4\)"),
        ((torch.zeros(2, 3),), "image holds 2 samples"),
        (5, "image is of type int: give a path, a PIL image"),
        (np.zeros((3, 4, 5), np.uint8), r"uint8 array of shape \(3, 4, 5\): a picture is"),
        (Image.fromarray(np.zeros((4, 4), np.int32)), r"more than 8 bits per channel \(mode I\)"),
    ],
)
def test_what_is_no_image(form: object, message: str) -> None:
    with pytest.raises(FmstatsError, match=message):
        read_image(form)


def test_transforms_are_held_to_their_word(photo: Path) -> None:
    with pytest.raises(FmstatsError, match="transform= gave ndarray: it must give a float tensor"):
        read_image(photo, np.array)
    with pytest.raises(FmstatsError, match=r"transform= gave torch\.int64"):
        read_image(photo, lambda _: torch.ones(3, 4, 4, dtype=torch.int64))
    with pytest.raises(FmstatsError, match="transform= raised ZeroDivisionError"):
        read_image(photo, lambda _: 1 / 0)
    with pytest.raises(FmstatsError, match="transform= makes tensors of pictures"):
        read_image(image(), SMALL)
    with pytest.raises(FmstatsError, match="cannot be read"):
        read_image("nowhere.png", lambda _: image())


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(FmstatsError, match="needs Pillow"):
        read_image("photo.png")
