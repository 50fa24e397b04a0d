"""Read image files as normalised batches, the way torchvision's evaluation transforms do.

Each image: RGB as `fmstats.sources.decoding` gives it, shorter side resized (bilinear,
antialiased), centre crop, scaled to 0..1, normalised by `mean` and `std` per channel. Files are
decoded by a few threads, always in order, and at most two batches ahead of the reader.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import numpy as np
import torch

from fmstats.errors import FmstatsError, needs
from fmstats.sources.decoding import decode
from fmstats.sources.stored import Skipped

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# With these, pixels stay in 0..1.
NO_MEAN = (0.0, 0.0, 0.0)
NO_STD = (1.0, 1.0, 1.0)

_MOST_PIXELS = 1 << 24  # of a resized image: 50 MB


@dataclass(frozen=True)
class ImageTransform:
    """Says how an image file becomes a float32 tensor (3, image_size, image_size)."""

    image_size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse settings that no image could satisfy."""
        if not 0 < self.image_size <= self.resize:
            raise FmstatsError(
                f"image_size {self.image_size} must be at least 1 and at most resize "
                f"{self.resize}: the crop is taken from the resized image"
            )
        finite = all(map(math.isfinite, (*self.mean, *self.std)))
        if len(self.mean) != 3 or len(self.std) != 3 or not finite or min(self.std) <= 0:
            raise FmstatsError(
                f"mean {self.mean} and std {self.std} must be three finite numbers each, std above "
                "0"
            )

    def describe(self) -> str:
        """Describe size and normalisation: `224 px, ImageNet mean and std`."""
        size = f"{self.image_size} px"
        if self.resize != usual_resize(self.image_size):
            size += f" cut from {self.resize}"
        normalisation = (self.mean, self.std)
        if normalisation == (IMAGENET_MEAN, IMAGENET_STD):
            return f"{size}, ImageNet mean and std"
        if normalisation == (NO_MEAN, NO_STD):
            return f"{size}, pixels in [0, 1]"
        return f"{size}, mean {_name_channels(self.mean)}, std {_name_channels(self.std)}"

    def to_dict(self) -> dict[str, int | list[float]]:
        """Return the settings by name, ready for JSON."""
        return {
            "image_size": self.image_size,
            "resize": self.resize,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def read(self, file: Path | IO[bytes]) -> torch.Tensor:
        """Decode and transform one file; of several frames the first.

        Raises:
            FmstatsError: it is no image that can be read without loss (the message names it).
        """
        return self.read_first(file)[0]

    def read_first(self, file: Path | IO[bytes]) -> tuple[torch.Tensor, int]:
        """Read one file like `read`, and count the frames or pages after the first.

        Raises:
            FmstatsError: as `read`.
        """
        try:
            image, further = decode(file)
        except FmstatsError as error:
            raise FmstatsError(f"image {_name(file)} {error}") from error
        pixels = torch.from_numpy(np.array(self._cut(image))).permute(2, 0, 1)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return ((pixels.to(torch.float32) / 255 - mean) / std).contiguous(), further

    def _cut(self, image: Picture) -> Picture:
        """Return the centre of the image, after its shorter side was resized."""
        from PIL.Image import Resampling

        short = min(image.size)
        width, height = (self.resize * side // short for side in image.size)
        left, top = (round((side - self.image_size) / 2) for side in (width, height))
        box = left, top, left + self.image_size, top + self.image_size
        if width * height <= _MOST_PIXELS:
            return image.resize((width, height), Resampling.BILINEAR).crop(box)
        # An image so narrow would take gigabytes: resize only what is cut out, which rounds a few
        # pixels otherwise.
        x, y = image.width / width, image.height / height
        part = box[0] * x, box[1] * y, box[2] * x, box[3] * y
        return image.resize((self.image_size, self.image_size), Resampling.BILINEAR, part)


def usual_resize(image_size: int) -> int:
    """Return the shorter side before a crop of `image_size`: 256 for 224, as for ImageNet."""
    return image_size * 256 // 224


def _name_channels(values: tuple[float, ...]) -> str:
    """Format `0.5` where all channels agree, else `0.4,0.5,0.6`, as in the command line."""
    return ",".join(map(str, values if len(set(values)) > 1 else values[:1]))


def require_pillow(spec: str) -> None:
    """Refuse at once where Pillow is missing, rather than at the first image."""
    with needs(f"reading images in {spec!r}", "Pillow", "'fmstats[data]'"):
        import PIL.Image  # noqa: F401


def _name(file: Path | IO[bytes]) -> str:
    return repr(str(file)) if isinstance(file, Path) else "in memory"


def _describe_further(path: Path, further: int) -> str:
    more = "a second frame or page is" if further == 1 else f"{further:,} more frames or pages are"
    return f"image {str(path)!r}: its first frame or page was read, {more} left out"


def read_images(
    paths: Sequence[Path],
    read: Callable[[Path], tuple[torch.Tensor, int]],
    spans: Iterable[range],
    *,
    on_bad_sample: Literal["raise", "skip"],
    skipped: Skipped,
) -> Iterator[tuple[range, torch.Tensor | None]]:
    """Yield each span of places in `paths` and its batch (N, 3, H, W), None where N is 0.

    With `on_bad_sample="skip"` unreadable files are left out of their batch and noted in `skipped`.
    So are, whatever it is, the frames and pages of a file after the first.
    """
    # Threads suffice: Pillow decodes and resizes outside of the interpreter lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        waiting: deque[tuple[range, list[Future[tuple[torch.Tensor, int]]]]] = deque()
        coming = iter(spans)

        def begin(count: int) -> None:
            for span in islice(coming, count):
                waiting.append((span, [pool.submit(read, paths[place]) for place in span]))

        try:
            begin(2)
            while waiting:
                span, futures = waiting.popleft()
                images = []
                for place, future in zip(span, futures, strict=True):
                    try:
                        image, further = future.result()
                    except FmstatsError as error:
                        if on_bad_sample == "raise":
                            raise
                        skipped.add(str(error))
                        continue
                    images.append(image)
                    if further:
                        skipped.extend(Skipped(further, [_describe_further(paths[place], further)]))
                begin(1)
                yield span, torch.stack(images) if images else None
        finally:
            pool.shutdown(cancel_futures=True)
