"""Decode an image file to RGB as a viewer shows it, or say why not.

- The orientation that a camera has noted (EXIF) is applied.
- What is transparent is laid over white.
- Grey, palette and 1-bit images, CMYK, YCbCr and the like are converted by Pillow, which does not
  apply colour profiles.
- Of several frames or pages the first is taken, and the others are counted.
- More than 8 bits per channel are refused where Pillow would cut them off. Decoders of AVIF and
  JPEG 2000 give 8 bits, whatever the file has.
- More pixels than Pillow allows (twice `PIL.Image.MAX_IMAGE_PIXELS`, 179 million) are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fmstats.errors import FmstatsError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

# Named first, and the only ones known where Pillow is missing.
USUAL_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")

# Of what Pillow opens: data that it needs help to read, films, and EPS, which is a program.
_NO_PICTURES = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
_DEEP = re.compile(r";(16|32)[BLNS]")  # Pillow's raw modes with more than 8 bits
_BITS_PER_SAMPLE, _REDUCED = 258, 254  # tags of TIFF


@cache
def list_formats() -> Mapping[str, str]:
    """Return Pillow's formats by the suffixes of their files, the usual suffixes first."""
    from PIL import Image

    Image.init()
    known = {
        suffix: name
        for suffix, name in Image.registered_extensions().items()
        # MPO is opened as JPEG.
        if (name in Image.OPEN or name == "MPO") and name not in _NO_PICTURES
    }
    first = {suffix: known[suffix] for suffix in USUAL_SUFFIXES if suffix in known}
    return first | known


def is_image(path: Path) -> bool:
    """Return whether a file is an image by its suffix."""
    try:
        known: Mapping[str, str] | tuple[str, ...] = list_formats()
    except ImportError:
        known = USUAL_SUFFIXES
    return path.suffix.lower() in known


def decode(file: Path | IO[bytes]) -> tuple[Picture, int]:
    """Return the first frame of an image file in RGB, and how many more it has.

    Raises:
        FmstatsError: the file is none, or no image that can be read without loss; the message says
            what it is, as in "it is no file".
    """
    from PIL import Image

    if isinstance(file, Path) and file.exists() and not file.is_file():  # a pipe never ends
        raise FmstatsError("cannot be read: it is no file")
    try:
        with Image.open(file, formats=sorted({*list_formats().values()} - {"MPO"})) as opened:
            _refuse_deep(opened)
            further = _count_further(opened)
            opened.load()
            return _flatten(_rotate(opened)), further
    except FmstatsError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and its own.
        raise FmstatsError(f"cannot be read: {type(error).__name__}: {error}") from error


def _refuse_deep(image: Any) -> None:
    """Refuse numbers that Pillow would clip to 255, or of which it would keep the upper 8 bits."""
    deep = image.mode.startswith("I") or image.mode == "F"
    for tile in getattr(image, "tile", ()):
        given = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        # The raw mode, or the largest value of a PPM.
        deep |= any(isinstance(each, str) and bool(_DEEP.search(each)) for each in given)
        deep |= image.format == "PPM" and isinstance(given[-1], int) and given[-1] > 255
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, 8)
        deep |= max(bits if isinstance(bits, tuple) else (bits,)) > 8
    if deep:
        raise FmstatsError(
            f"has more than 8 bits per channel (mode {image.mode}): save it with 8 bits, or as .npy"
        )


def _count_further(image: Any) -> int:
    """Count the frames or pages after the first.

    The further pictures of a photograph (MPO: previews, depth) and the layers of a drawing (PSD)
    are none, nor are the smaller copies of a TIFF of large size.
    """
    if image.format in ("MPO", "PSD"):
        return 0
    frames: int = getattr(image, "n_frames", 1)
    if image.format != "TIFF" or frames == 1:
        return frames - 1
    further = 0
    for frame in range(1, frames):
        image.seek(frame)
        further += not image.tag_v2.get(_REDUCED, 0) & 1
    image.seek(0)
    return further


def _rotate(image: Picture) -> Picture:
    """Rotate the image as its EXIF orientation says, if that can be read."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # of many kinds: the notes may be any bytes
        return image


def _flatten(image: Picture) -> Picture:
    """Convert the image to RGB, over white where it is transparent."""
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        seen = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    return image.convert("RGB")
