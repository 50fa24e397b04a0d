"""Read what users give as an image, as a batch of one and as a picture."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.sources.batches import ModelInput, read_batch
from fmstats.sources.conversion import to_tensor
from fmstats.sources.entrypoints import describe_error
from fmstats.sources.images import IMAGENET_MEAN, IMAGENET_STD, ImageTransform, require_pillow

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Array = NDArray[Any]
Transform = Union[ImageTransform, Callable[["PillowImage"], Tensor]]  # noqa: UP007 # holds a string

DEFAULT_TRANSFORM = ImageTransform(224, 256, IMAGENET_MEAN, IMAGENET_STD)

IMAGE_FORMS = (
    "a path, a PIL image, a uint8 array (H, W, 3) or (H, W), a float array or tensor (1, C, H, W) "
    "or (C, H, W), or any other input of one sample as a tuple (x,) or a dict of arguments"
)


@dataclass(frozen=True)
class OneImage:
    """Holds one sample for a model.

    Attributes:
        inputs: the arguments of the model, a batch of one.
        picture: what the model sees, (H, W, 3) in 0..1; None where the input is no picture.
    """

    inputs: ModelInput
    picture: Array | None


def read_image(image: object, transform: Transform | None = None) -> OneImage:
    """Read one of `IMAGE_FORMS`.

    Raises:
        FmstatsError: it is none of these, holds several samples, or cannot be read.
    """
    if isinstance(image, str | Path):
        return _from_file(Path(image).expanduser(), transform or DEFAULT_TRANSFORM)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return _from_pillow(_from_bytes(image), transform or DEFAULT_TRANSFORM)
    if _is_pillow(image):
        return _from_pillow(image, transform or DEFAULT_TRANSFORM)
    if transform is not None:
        raise FmstatsError(
            f"transform= makes tensors of pictures, and image is of type {type(image).__name__}: "
            "give a path, a PIL image or a uint8 array, or leave transform= out"
        )
    if isinstance(image, Tensor | np.ndarray):
        return _from_tensor(to_tensor(image).detach())
    if isinstance(image, tuple | list | Mapping):
        inputs = read_batch(image, 1, batch_dim=0)
        tensors = [v for v in (*inputs.args, *inputs.kwargs.values()) if isinstance(v, Tensor)]
        known = inputs.samples
        if known is None:
            known = len(tensors[0]) if tensors and tensors[0].dim() else 1
        _check_one(known, inputs.describe())
        return OneImage(inputs, picture_of(tensors[0][0]) if tensors else None)
    raise FmstatsError(f"image is of type {type(image).__name__}: give {IMAGE_FORMS}")


def picture_of(image: Tensor) -> Array | None:
    """Return a sample of a model's input as (H, W, 3) in 0..1; None where it is no picture."""
    pictures = pictures_of([image])
    return None if pictures is None else pictures[0]


def pictures_of(images: Sequence[Tensor]) -> list[Array] | None:
    """Return samples of a model's input as pictures (H, W, 3) in 0..1, by one formula.

    Values in 0..1 are shown as they are; values that lie in 0..1 once ImageNet's normalisation is
    undone, so; all others stretched from their least to their greatest. None where a sample is not
    (C, H, W) of floats. Where C is neither 1 nor 3, the mean over C is shown in grey.
    """
    if not images or any(
        x.dim() != 3 or not x.is_floating_point() or not x.numel() for x in images
    ):
        return None
    pixels = [x.detach().to("cpu", torch.float32) for x in images]
    pixels = [torch.nan_to_num(x, 0.0, 0.0, 0.0) for x in pixels]
    if any(len(x) not in (1, 3) for x in pixels):
        pixels = [x.mean(0, keepdim=True) for x in pixels]
    pixels = [x.expand(3, *x.shape[1:]) for x in pixels]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    restored = [x * std + mean for x in pixels]
    if not _fit(pixels):
        if _fit(restored):
            pixels = restored
        else:
            low = min(float(x.min()) for x in pixels)
            high = max(float(x.max()) for x in pixels)
            pixels = [(x - low) / ((high - low) or 1.0) for x in pixels]
    return [x.clamp(0, 1).permute(1, 2, 0).numpy() for x in pixels]


def _fit(pixels: Sequence[Tensor]) -> bool:
    # float16 and bfloat16 inputs come back from the normalisation with an error of a few 1e-2.
    return all(float(x.min()) >= -0.02 and float(x.max()) <= 1.02 for x in pixels)


def _is_pillow(image: object) -> bool:
    return any(f"{c.__module__}.{c.__name__}" == "PIL.Image.Image" for c in type(image).__mro__)


def _from_file(path: Path, transform: Transform) -> OneImage:
    require_pillow(str(path))
    if isinstance(transform, ImageTransform):
        return _from_transform(transform, transform.read(path))
    from PIL import Image

    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except Exception as error:  # PIL raises OSError, SyntaxError, ValueError and its own.
        raise FmstatsError(
            f"image {str(path)!r} cannot be read: {type(error).__name__}: {error}"
        ) from error
    return _from_pillow(image, transform)


def _from_bytes(array: Array) -> PillowImage:
    require_pillow("a uint8 array")
    from PIL import Image

    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if not array.size or not (grey or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise FmstatsError(
            f"image is a uint8 array of shape {array.shape}: a picture is (H, W), (H, W, 3) or "
            "(H, W, 4); input of a model is a float array"
        )
    return Image.fromarray(
        np.ascontiguousarray(array.squeeze(2) if array.ndim == 3 and grey else array)
    )


def _from_pillow(image: Any, transform: Transform) -> OneImage:
    if image.mode.startswith("I") or image.mode == "F":
        raise FmstatsError(
            f"image has more than 8 bits per channel (mode {image.mode}): convert it to 8 bits, or "
            "give a float tensor as the model takes it"
        )
    image = image.convert("RGB")
    if isinstance(transform, ImageTransform):
        # ImageTransform reads files; a BMP in memory is one, without loss and almost free.
        file = io.BytesIO()
        image.save(file, "BMP")
        file.seek(0)
        return _from_transform(transform, transform.read(file))
    try:
        made = transform(image)
    except Exception as error:
        raise FmstatsError(f"transform= raised {describe_error(error)}") from error
    if not isinstance(made, Tensor) or not made.is_floating_point():
        kind = str(made.dtype) if isinstance(made, Tensor) else type(made).__name__
        raise FmstatsError(f"transform= gave {kind}: it must give a float tensor (C, H, W)")
    return _from_tensor(made.detach())


def _from_transform(transform: ImageTransform, pixels: Tensor) -> OneImage:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (transform.mean, transform.std))
    picture = (pixels * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()
    return OneImage(ModelInput((pixels[None],)), picture)


def _from_tensor(x: Tensor) -> OneImage:
    if x.dim() == 3:
        x = x[None]
    _check_one(len(x) if x.dim() else 1, f"{tuple(x.shape)}")
    return OneImage(ModelInput((x,)), picture_of(x[0]) if x.dim() == 4 else None)


def _check_one(samples: int, shape: str) -> None:
    if samples != 1:
        raise FmstatsError(
            f"image holds {samples} samples, {shape}: a picture is of one, such as image[:1]"
        )
