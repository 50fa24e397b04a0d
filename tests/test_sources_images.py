"""A folder of images is read sorted, normalised as torchvision does, and fails on the bad file."""

from __future__ import annotations

import dataclasses
import sys
import time

import numpy as np
import pytest
import torch

from fmstats.errors import FmstatsError
from fmstats.sources import open_data
from fmstats.sources.images import ImageTransform, read_images
from fmstats.sources.stored import Skipped

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def save(path, color, size=(40, 30), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    save(root / "b" / "2.png", (20, 0, 0))
    save(root / "b" / "10.JPG", (10, 0, 0))
    save(root / "a" / "deep" / "x.bmp", (0, 0, 0))
    save(root / "c.webp", (30, 0, 0))
    save(root / "d.tif", (40, 0, 0), size=(30, 70))
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_bytes(b"no image")
    return root


def test_recursive_sorted_batches(folder):
    source = open_data(folder, batch_size=2, image_size=16, resize=20, **PLAIN)
    assert source.samples == 5
    assert source.description == f"5 images in '{folder}', 16 px cut from 20, pixels in [0, 1]"
    batches = list(source)
    assert [tuple(batch.shape) for batch in batches] == [(2, 3, 16, 16)] * 2 + [(1, 3, 16, 16)]
    assert all(batch.dtype == torch.float32 for batch in batches)
    red = torch.cat(batches)[:, 0].mean(dim=(1, 2)) * 255
    # a/deep/x.bmp, b/10.JPG, b/2.png, c.webp, d.tif; JPG and WebP are lossy.
    np.testing.assert_allclose(red.numpy(), [0, 10, 20, 30, 40], atol=2.5)
    assert torch.equal(torch.cat(list(source)), torch.cat(batches))


def test_default_size_and_normalisation(tmp_path):
    save(tmp_path / "gray.png", 255, size=(300, 280), mode="L")
    (batch,) = open_data(tmp_path)
    assert batch.shape == (1, 3, 224, 224)
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    np.testing.assert_allclose(batch[0, :, 100, 100].numpy(), expected, rtol=1e-6)


def test_own_normalisation(tmp_path):
    save(tmp_path / "colour.png", (255, 51, 0))
    mean, std = (0.5, 0.1, 0.25), (0.5, 0.2, 0.125)
    (batch,) = open_data(tmp_path, image_size=8, mean=mean, std=std)
    expected = [(1 - 0.5) / 0.5, (0.2 - 0.1) / 0.2, (0 - 0.25) / 0.125]
    np.testing.assert_allclose(batch[0, :, 4, 4].numpy(), expected, rtol=1e-6)
    (usual,) = open_data(tmp_path, image_size=8)
    assert not torch.equal(usual, batch)


def test_resize_and_crop_are_those_of_torchvision(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (37, 61, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    (batch,) = open_data(tmp_path, image_size=20, resize=24, **PLAIN)
    resized = Image.fromarray(pixels).resize((24 * 61 // 37, 24), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 20) / 2.0), round((24 - 20) / 2.0)
    expected = np.array(resized)[top : top + 20, left : left + 20]
    assert np.array_equal((batch[0] * 255).round().byte().permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("size", [(2, 3200), (3200, 2)])
def test_of_an_image_too_narrow_to_resize_the_cut_is_the_same(tmp_path, size):
    """Resized, this one has 128 x 204800 pixels, which are more than the largest resized image."""
    rows = np.random.default_rng(0).integers(0, 256, (3200, 2, 3), dtype=np.uint8)
    pixels = rows if size[0] < size[1] else rows.swapaxes(0, 1)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.save(tmp_path / "x.png")
    (batch,) = open_data(tmp_path, image_size=100, resize=128, **PLAIN)
    width, height = (64 * side for side in size)
    left, top = (width - 100) // 2, (height - 100) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    expected = np.array(resized.crop((left, top, left + 100, top + 100)), dtype=float)
    found = (batch[0] * 255).permute(1, 2, 0).numpy()
    assert np.ptp(expected) > 100
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.01)  # rounded otherwise


def test_the_smallest_size(tmp_path):
    save(tmp_path / "x.png", (51, 0, 255))
    (batch,) = open_data(tmp_path, image_size=1, resize=1, **PLAIN)
    np.testing.assert_allclose(batch.flatten().numpy(), [0.2, 0, 1], rtol=1e-6)


def test_a_transform_stays_as_it_is():
    transform = ImageTransform(8, 9, PLAIN["mean"], PLAIN["std"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        transform.resize = 10


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "224 px, ImageNet mean and std"),
        ({"image_size": 64}, "64 px, ImageNet mean and std"),
        ({"image_size": 64, "resize": 64}, "64 px cut from 64, ImageNet mean and std"),
        (PLAIN, "224 px, pixels in [0, 1]"),
        ({"mean": [0, 0, 0], "std": [1, 1, 1]}, "224 px, pixels in [0, 1]"),
        ({"mean": (0.5,) * 3, "std": (0.5,) * 3}, "224 px, mean 0.5, std 0.5"),
        ({"mean": (0.5, 0.25, 0.5), "std": (1,) * 3}, "224 px, mean 0.5,0.25,0.5, std 1.0"),
        ({"std": (0.5,) * 3}, "224 px, mean 0.485,0.456,0.406, std 0.5"),
    ],
)
def test_the_description_tells_the_transform(folder, options, told):
    assert open_data(folder, **options).description == f"5 images in '{folder}', {told}"
    path = folder / "c.webp"
    assert open_data(path, **options).description == f"image '{path}', {told}"


def test_inputs(folder, tmp_path):
    usual = {"image_size": 224, "resize": 256}
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert open_data(folder).inputs == {**usual, **imagenet}
    assert open_data(folder / "c.webp").inputs == {**usual, **imagenet}
    half = open_data(folder, image_size=8, resize=9, mean=(0.5,) * 3, std=(1, 1, 2))
    assert half.inputs == {"image_size": 8, "resize": 9, "mean": [0.5] * 3, "std": [1.0, 1.0, 2.0]}
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    assert open_data(tmp_path / "x.npy").inputs is None


def test_one_image(folder):
    source = open_data(folder / "c.webp")
    assert source.samples == 1
    assert next(iter(source)).shape == (1, 3, 224, 224)


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1]), (3, [2, 1]), (4, [2, 2]), (9, [2, 2, 1])])
def test_limit(folder, limit, sizes):
    source = open_data(folder, batch_size=2, image_size=8, limit=limit)
    assert source.samples == sum(sizes)
    assert [len(batch) for batch in source] == sizes


def test_unreadable_image_is_named(folder):
    (folder / "b" / "11.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(FmstatsError, match=r"image '.*b/11.png' cannot be read: "):
        list(open_data(folder, image_size=8))


def test_unreadable_images_can_be_skipped(folder):
    (folder / "b" / "11.png").write_bytes(b"broken")
    Image.fromarray(np.full((9, 9), 40000, np.uint16)).save(folder / "bb.png")
    source = open_data(folder, batch_size=2, image_size=8, limit=6, on_bad_sample="skip")
    for _ in range(2):  # x.bmp and 10.JPG; neither 11.png nor 2.png without; bb.png and c.webp
        assert [len(batch) for batch in source] == [2, 1, 1]
        assert source.skipped.count == 2
        assert [entry.split("'")[1] for entry in source.skipped.entries] == [
            str(folder / "b" / "11.png"),
            str(folder / "bb.png"),
        ]


def test_batches_of_any_span(folder):
    source = open_data(folder, batch_size=2, image_size=8)
    every = list(source)
    spans = source.stored.spans()
    assert spans == [range(0, 2), range(2, 4), range(4, 5)]
    read = dict(source.stored.read(reversed(spans), source.skipped))
    assert all(torch.equal(read[span], batch) for span, batch in zip(spans, every, strict=True))


def test_sixteen_bits_are_refused_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((9, 9), 40000, np.uint16)).save(tmp_path / "bb.png")
    with pytest.raises(FmstatsError, match=r"bb.png' has more than 8 bits per channel \(mode I;16"):
        list(open_data(tmp_path))


def test_folders_without_images(tmp_path):
    with pytest.raises(FmstatsError, match=r"no image in folder '.*': it is empty; fmstats reads "):
        open_data(tmp_path)
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.h5").write_text("")
    with pytest.raises(
        FmstatsError, match=r"no image in folder '.*': 2 files, none ends in .jpg, "
    ):
        open_data(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"image_size": 300, "resize": 256},
            "image_size 300 must be at least 1 and at most resize",
        ),
        ({"image_size": 0}, "image_size 0 must be at least 1"),
        ({"std": (1.0, 0.0, 1.0)}, "must be three finite numbers each, std above 0"),
        ({"std": (1.0, -1.0, 1.0)}, "must be three finite numbers each, std above 0"),
        ({"std": (1.0, float("nan"), 1.0)}, "must be three finite numbers each"),
        ({"mean": (0.0, float("inf"), 0.0)}, "must be three finite numbers each"),
        ({"mean": (1.0,)}, "must be three finite numbers each"),
        ({"batch_size": 0}, "batch_size 0 and limit None must be at least 1"),
        ({"limit": 0}, "batch_size 32 and limit 0 must be at least 1"),
        ({"on_bad_sample": "ignore"}, "on_bad_sample 'ignore' is neither 'raise' nor 'skip'"),
    ],
)
def test_wrong_settings(folder, settings, message):
    with pytest.raises(FmstatsError, match=message):
        open_data(folder, **settings)


def test_missing_pillow(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(FmstatsError, match=r"needs Pillow: pip install 'fmstats\[data\]'"):
        open_data(folder)


def test_a_pass_left_early_ends(folder):
    batches = iter(open_data(folder, batch_size=1, image_size=8))
    next(batches)
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)


def test_what_is_waiting_is_not_read_after_a_pass_is_left(tmp_path):
    read = []

    def slow(path):
        time.sleep(0 if len(read) < 10 else 0.02)
        read.append(path)
        return torch.zeros(3, 1, 1), 0

    spans = [range(10), range(10, 400)]
    batches = read_images([tmp_path] * 400, slow, spans, on_bad_sample="raise", skipped=Skipped())
    next(batches)
    batches.close()
    assert 10 <= len(read) < 300


@pytest.mark.parametrize("height", range(20, 41))
@pytest.mark.parametrize("upright", [True, False])
def test_the_cut_is_rounded_as_torchvision_does(tmp_path, height, upright):
    """Half a pixel to the even one: `int(round((height - size) / 2.0))`."""
    pixels = np.arange(height, dtype=np.uint8)[:, None, None].repeat(20, 1).repeat(3, 2)
    pixels = pixels if upright else pixels.swapaxes(0, 1)
    Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "x.png")
    (batch,) = open_data(tmp_path, image_size=16, resize=20, **PLAIN)
    cut = (batch[0, 0] * 255).round()[:, 0] if upright else (batch[0, 0] * 255).round()[0]
    first = round((height - 16) / 2.0)
    assert cut.tolist() == list(range(first, first + 16))
