"""Read image files as normalised batches, the way torchvision's evaluation transforms do.

Each image: RGB, shorter side resized (bilinear, antialiased), centre crop, scaled to 0..1,
normalised by `mean` and `std` per channel. Files are decoded by a few threads, always in order, and
at most two batches ahead of the reader.
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
from typing import Literal

import numpy as np
import torch

from fmstats.errors import FmstatsError
from fmstats.sources.stored import Skipped

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# With these, pixels stay in 0..1.
NO_MEAN = (0.0, 0.0, 0.0)
NO_STD = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class ImageTransform:
    """How an image file becomes a float32 tensor (3, image_size, image_size)."""

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
        """Size and normalisation in a few words: `224 px, ImageNet mean and std`."""
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
        """The settings by name, ready for JSON."""
        return {
            "image_size": self.image_size,
            "resize": self.resize,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def read(self, path: Path) -> torch.Tensor:
        """Decode and transform one file.

        Raises:
            FmstatsError: it is not an image that can be read without loss (the message names it).
        """
        from PIL import Image

        try:
            with Image.open(path) as file:
                if file.mode.startswith("I") or file.mode == "F":
                    # convert("RGB") would clip these values to 255 without a word.
                    raise FmstatsError(
                        f"image {str(path)!r} has more than 8 bits per channel (mode {file.mode}): "
                        "save it with 8 bits, or as .npy"
                    )
                image = file.convert("RGB")
        except FmstatsError:
            raise
        except Exception as error:  # PIL raises OSError, SyntaxError, ValueError and its own.
            raise FmstatsError(
                f"image {str(path)!r} cannot be read: {type(error).__name__}: {error}"
            ) from error
        width, height = image.size
        short = min(width, height)
        width, height = self.resize * width // short, self.resize * height // short
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left = round((width - self.image_size) / 2)
        top = round((height - self.image_size) / 2)
        image = image.crop((left, top, left + self.image_size, top + self.image_size))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(torch.float32) / 255
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return ((pixels - mean) / std).contiguous()


def usual_resize(image_size: int) -> int:
    """The shorter side before a crop of `image_size`: 256 for 224, as ImageNet is evaluated."""
    return image_size * 256 // 224


def _name_channels(values: tuple[float, ...]) -> str:
    """`0.5` where all channels agree, else `0.4,0.5,0.6`, as the command line takes them."""
    return ",".join(map(str, values if len(set(values)) > 1 else values[:1]))


def find_images(folder: Path) -> list[Path]:
    """The image files in `folder` and below, sorted; names that start with a dot are left out.

    Raises:
        FmstatsError: there is none.
    """
    files = [
        Path(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if not name.startswith(".")
    ]
    images = sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        state = f"{len(files)} files, none ends in" if files else "it is empty; fmstats reads"
        raise FmstatsError(
            f"no image in folder {str(folder)!r}: {state} {', '.join(IMAGE_SUFFIXES)}"
        )
    return images


def require_pillow(spec: str) -> None:
    """Refuse at once where Pillow is missing, rather than at the first image."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise FmstatsError(
            f"images in {spec!r} need Pillow, which cannot be imported ({error}): "
            "pip install 'fmstats[data]'"
        ) from error


def read_images(
    paths: Sequence[Path],
    read: Callable[[Path], torch.Tensor],
    spans: Iterable[range],
    *,
    on_bad_sample: Literal["raise", "skip"],
    skipped: Skipped,
) -> Iterator[tuple[range, torch.Tensor | None]]:
    """Yield each span of places in `paths` and its batch (N, 3, H, W), None where N is 0.

    With `on_bad_sample="skip"` unreadable files are left out of their batch and noted in `skipped`.
    """
    # Threads suffice: Pillow decodes and resizes outside of the interpreter lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        waiting: deque[tuple[range, list[Future[torch.Tensor]]]] = deque()
        coming = iter(spans)

        def begin(count: int) -> None:
            for span in islice(coming, count):
                waiting.append((span, [pool.submit(read, paths[place]) for place in span]))

        try:
            begin(2)
            while waiting:
                span, futures = waiting.popleft()
                images = []
                for future in futures:
                    try:
                        images.append(future.result())
                    except FmstatsError as error:
                        if on_bad_sample == "raise":
                            raise
                        skipped.add(str(error))
                begin(1)
                yield span, torch.stack(images) if images else None
        finally:
            pool.shutdown(cancel_futures=True)
