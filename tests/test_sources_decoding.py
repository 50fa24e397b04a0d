"""Images come out as a viewer shows them, or with the reason why not."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fmstats.errors import FmstatsError
from fmstats.sources import open_data
from fmstats.sources.decoding import decode, is_image, list_formats
from fmstats.sources.images import ImageTransform

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")

PLAIN = ImageTransform(8, 8, (0.0,) * 3, (1.0,) * 3)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
MADE = {  # formats that Pillow writes, by suffix, and how far a colour may move
    **dict.fromkeys((".png", ".apng", ".bmp", ".dib", ".ppm", ".pnm", ".tga", ".tif", ".gif"), 0),
    **dict.fromkeys((".tiff", ".pcx", ".sgi", ".ico", ".icns", ".qoi", ".dds"), 0),
    **dict.fromkeys((".jpg", ".jpe", ".jpeg", ".jfif", ".webp", ".avif", ".jp2", ".j2k"), 6),
}


def pixel(path: Path | io.BytesIO, x: int = 0, y: int = 0) -> tuple[int, ...]:
    image, _ = decode(path)
    assert image.mode == "RGB"
    return tuple(image.getpixel((x, y)))


@pytest.mark.parametrize("suffix", MADE)
def test_every_usual_kind_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix.upper()}"
    if suffix not in list_formats():
        pytest.skip(f"needs a Pillow with {suffix}")
    try:
        Image.new("RGB", (32, 32), (200, 100, 50)).save(path)
    except (OSError, KeyError) as error:
        pytest.skip(f"needs a Pillow that writes {suffix}: {error}")
    assert is_image(path)
    np.testing.assert_allclose(pixel(path), (200, 100, 50), atol=MADE[suffix])
    source = open_data(tmp_path, image_size=8)
    assert [tuple(batch.shape) for batch in source] == [(1, 3, 8, 8)]
    assert source.skipped.count == 0


def test_suffixes_are_those_of_pillow() -> None:
    known = list_formats()
    assert {".gif", ".jfif", ".ppm", ".pgm", ".tga", ".mpo", ".ico"} <= set(known)
    assert not {".h5", ".pdf", ".eps", ".mpg", ".fits", ".txt", ""} & set(known)
    assert list(known)[:3] == [".jpg", ".jpeg", ".png"]


def test_without_pillow_the_usual_ones_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    list_formats.cache_clear()
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert is_image(Path("a.PNG"))
    assert not is_image(Path("a.txt"))
    with pytest.raises(FmstatsError, match="there is no"):
        open_data("none.npy")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_the_camera(tmp_path: Path, orientation: int) -> None:
    """The corner that a viewer shows at the upper left, for each way of holding a camera."""
    image = Image.new("RGB", (16, 32), WHITE)
    for place, colour in (((0, 0), RED), ((8, 0), GREEN), ((0, 24), BLUE)):
        image.paste(colour, (*place, place[0] + 8, place[1] + 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "x.png", exif=exif)
    read, _ = decode(tmp_path / "x.png")
    # As the standard says where the first row and column of the file are to be seen.
    corners = {
        **{1: (RED, GREEN, BLUE), 2: (GREEN, RED, WHITE), 3: (WHITE, BLUE, GREEN)},
        **{4: (BLUE, WHITE, RED), 5: (RED, BLUE, GREEN), 6: (BLUE, RED, WHITE)},
        **{7: (WHITE, GREEN, BLUE), 8: (GREEN, WHITE, RED)},
    }[orientation]
    width, height = read.size
    assert (width, height) == ((16, 32) if orientation < 5 else (32, 16))
    seen = tuple(read.getpixel(xy) for xy in ((0, 0), (width - 1, 0), (0, height - 1)))
    assert seen == corners


def test_notes_of_a_camera_that_nobody_can_read(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), RED).save(tmp_path / "x.png", exif=b"Exif\0\0no notes at all")
    with Image.open(tmp_path / "x.png") as opened, pytest.raises(SyntaxError):
        opened.getexif()
    assert pixel(tmp_path / "x.png") == RED


def some_alpha() -> dict[str, Any]:
    """Images whose left half one sees through, black under it, by what they are."""
    rgba = Image.new("RGBA", (16, 8), (*RED, 255))
    rgba.paste((0, 0, 0, 0), (0, 0, 8, 8))
    palette = Image.new("P", (16, 8), 1)
    palette.putpalette([0, 0, 0, *RED])
    palette.paste(0, (0, 0, 8, 8))
    palette.info["transparency"] = 0
    grey = Image.new("LA", (16, 8), (255, 255))
    grey.paste((0, 0), (0, 0, 8, 8))
    return {"rgba.png": rgba, "p.png": palette, "p.gif": palette, "la.png": grey, "a.tif": rgba}


@pytest.mark.parametrize("name", some_alpha())
def test_what_one_sees_through_is_white(tmp_path: Path, name: str) -> None:
    some_alpha()[name].save(tmp_path / name)
    assert pixel(tmp_path / name, 0) == WHITE
    assert pixel(tmp_path / name, 15) == (WHITE if name == "la.png" else RED)


def test_half_of_a_colour_is_laid_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 51)).save(tmp_path / "x.png")
    assert pixel(tmp_path / "x.png") == (255, 204, 204)


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("1", 1, "png", WHITE),
        ("1", 0, "tif", (0, 0, 0)),
        ("L", 77, "png", (77, 77, 77)),
        ("P", 30, "png", (30, 60, 90)),
        ("CMYK", (0, 255, 255, 0), "tif", RED),
        ("CMYK", (255, 0, 255, 51), "tif", (0, 204, 0)),
    ],
)
def test_other_modes(
    tmp_path: Path, mode: str, colour: Any, suffix: str, expected: tuple[int, ...]
) -> None:
    image = Image.new(mode, (8, 8), colour)
    if mode == "P":
        image.putpalette([value for i in range(256) for value in (i, 2 * i, 3 * i)][:240])
    image.save(tmp_path / f"x.{suffix}")
    assert pixel(tmp_path / f"x.{suffix}") == expected


def png16(channels: int) -> bytes:
    """A PNG of 16 bits per channel, which Pillow does not write."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    row = b"\0" + struct.pack(">H", 40000) * channels * 4

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(row * 4)) + chunk(b"IEND", b"")
    )


def deep_tiff() -> bytes:
    """Little endian, uncompressed RGB of 16 bits."""
    tags = [
        *((256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 3, 122), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 1, 128), (277, 3, 1, 3), (278, 3, 1, 4), (279, 4, 1, 96)),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries
    return (head + struct.pack("<I", 0)).ljust(122) + struct.pack("<HHH", 16, 16, 16) + bytes(96)


DEEP = {
    **{f"rgb{channels}.png": png16(channels) for channels in (1, 2, 3, 4)},
    "rgb.tif": deep_tiff(),
    "rgb.ppm": b"P6 2 2 65535 " + struct.pack(">12H", *[40000] * 12),
    "grey.pgm": b"P5 2 2 1023 " + struct.pack(">4H", *[1000] * 4),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DEEP[name])
    with pytest.raises(FmstatsError, match=rf"image '.*{name}' has more than 8 bits per channel"):
        list(open_data(tmp_path))
    source = open_data(tmp_path, on_bad_sample="skip")
    assert (list(source), source.skipped.count) == ([], 1)


def test_8_bits_are_no_more_than_8(tmp_path: Path) -> None:
    (tmp_path / "x.ppm").write_bytes(b"P6 1 1 255 " + bytes((1, 2, 3)))
    assert pixel(tmp_path / "x.ppm") == (1, 2, 3)
    content = bytearray(deep_tiff())
    content[122:128] = struct.pack("<HHH", 8, 8, 8)
    (tmp_path / "x.tif").write_bytes(content)
    assert pixel(tmp_path / "x.tif") == (0, 0, 0)


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp", "png"])
@pytest.mark.parametrize("frames", [1, 2, 4])
def test_further_frames_are_left_out_and_told(tmp_path: Path, suffix: str, frames: int) -> None:
    images = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE, WHITE)[:frames]]
    path = tmp_path / f"x.{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:])
    image, further = decode(path)
    np.testing.assert_allclose(image.getpixel((4, 4)), RED, atol=3)
    assert further == frames - 1
    for rule in ("raise", "skip"):
        source = open_data(tmp_path, image_size=8, on_bad_sample=rule)
        assert [len(batch) for batch in source] == [1]
        assert source.skipped.count == frames - 1
        more = {1: [], 2: ["a second frame or page is"], 4: ["3 more frames or pages are"]}[frames]
        assert source.skipped.entries == [
            f"image {str(path)!r}: its first frame or page was read, {each} left out"
            for each in more
        ]


def test_smaller_copies_are_no_pages(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), RED)
    small = Image.new("RGB", (4, 4), RED)
    small.encoderinfo = {"tiffinfo": {254: 1}}
    image.save(tmp_path / "x.tif", save_all=True, append_images=[small])
    assert decode(tmp_path / "x.tif")[1] == 0
    image.save(tmp_path / "x.mpo", save_all=True, append_images=[small])
    assert decode(tmp_path / "x.mpo")[1] == 0


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "text": lambda content: b"no image at all",
    "zeros": lambda content: bytes(1000),
}


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp", "bmp"])
@pytest.mark.parametrize("damage", BROKEN)
def test_damaged_files_are_left_out_with_the_reason(
    tmp_path: Path, suffix: str, damage: str
) -> None:
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(content, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
    (tmp_path / f"x.{suffix}").write_bytes(BROKEN[damage](content.getvalue()))
    source = open_data(tmp_path, on_bad_sample="skip")
    assert list(source) == []
    (entry,) = source.skipped.entries
    assert entry.startswith(f"image '{tmp_path}/x.{suffix}' cannot be read: ")


def test_what_a_file_is_counts_not_its_suffix(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), RED).save(tmp_path / "x.jpg", "png")
    assert pixel(tmp_path / "x.jpg") == RED
    (tmp_path / "y.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(FmstatsError, match="cannot be read: UnidentifiedImageError"):
        decode(tmp_path / "y.png")  # EPS is a program, which nobody runs here


def test_an_image_of_too_many_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (30, 30)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 440)
    with pytest.raises(FmstatsError, match=r"cannot be read: DecompressionBombError: .*900 pixels"):
        decode(tmp_path / "x.png")


@pytest.mark.parametrize("size", [(4, 9000), (9000, 4), (1, 60_000)])
def test_a_narrow_image_needs_little_memory(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """(4, 9000) would be 147 million pixels after resizing, of which 224 x 224 are used."""
    resize, made = Image.Image.resize, []

    def note(image: Any, size: tuple[int, int], *options: Any) -> Any:
        made.append(size[0] * size[1])
        return resize(image, size, *options)

    monkeypatch.setattr(Image.Image, "resize", note)
    content = io.BytesIO()
    column = np.arange(max(size), dtype=np.int64) * 255 // max(size)
    pixels = np.broadcast_to(column[:, None, None], (max(size), min(size), 3)).astype(np.uint8)
    pixels = pixels if size[1] > size[0] else pixels.swapaxes(0, 1)
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, "png")
    read = ImageTransform(224, 256, (0.0,) * 3, (1.0,) * 3).read(content)
    assert 0 < sum(made) <= 1 << 24
    assert read.shape == (3, 224, 224)
    middle = read[:, 112, 112]
    assert torch.allclose(middle, torch.full((3,), 0.498), atol=0.004)


def test_resizing_a_part_is_resizing_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    for _ in range(60):
        width, height, size = (int(n) for n in chance.integers((1, 1, 1), (90, 90, 30)))
        pixels = chance.integers(0, 256, (height, width, 3), np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "png")
        transform = ImageTransform(size, size + int(chance.integers(0, 30)), (0.0,) * 3, (1.0,) * 3)
        monkeypatch.undo()
        whole = transform.read(content)
        monkeypatch.setattr("fmstats.sources.images._MOST_PIXELS", 0)
        assert (transform.read(content) - whole).abs().max() <= 2.01 / 255
